//! Names that web apps already have in their environment when they come from a serverless host.
//! Each stands in for a setting of ours while that one is not set, so that such an app moves with
//! the environment it has.

use std::collections::BTreeMap;

use super::Environment;

/// A name that stands in for a setting.
#[derive(Debug)]
pub struct Alias {
    /// The name that the app has.
    pub name: &'static str,
    /// The setting of ours.
    pub of: &'static str,
    /// How the one's value becomes the other's.
    read: fn(&str) -> String,
}

/// Every alias; of two for one setting the first that is set counts. Names that are the same on
/// both sides (`TWILIO_ACCOUNT_SID`, `OPENAI_API_KEY`, `FRONTEND_URL`, ...) need none.
pub const ALIASES: &[Alias] = &[
    Alias { name: "PUBLIC_BASE_URL", of: "CONTROL_PUBLIC_URL", read: without_slash },
    Alias { name: "PORT", of: "CONTROL_LISTEN", read: any_address },
    Alias { name: "TWILIO_PHONE_NUMBER", of: "CONTROL_FROM_NUMBER", read: str::to_owned },
    Alias { name: "DATABASE_URL", of: "CONTROL_DATABASE_URL", read: str::to_owned },
];

/// The settings with what stands in for those that are missing, and which name each came from.
pub(super) fn filled_in(
    environment: &Environment,
) -> (Environment, BTreeMap<&'static str, &'static str>) {
    let (mut filled, mut taken) = (environment.clone(), BTreeMap::new());
    let is_set = |environment: &Environment, name: &str| {
        environment.get(name).is_some_and(|value| !value.trim().is_empty())
    };
    for Alias { name, of, read } in ALIASES {
        if is_set(environment, name) && !is_set(&filled, of) {
            filled.insert((*of).to_owned(), read(environment[*name].trim()));
            taken.insert(*of, *name);
        }
    }
    (filled, taken)
}

/// Apps write their address with and without a slash at its end.
fn without_slash(url: &str) -> String {
    url.strip_suffix('/').unwrap_or(url).to_owned()
}

/// Hosts that give a port mean every address of the machine.
fn any_address(port: &str) -> String {
    format!("0.0.0.0:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_alias_fills_in_what_is_missing_and_nothing_else() {
        let given = environment(&[
            ("PUBLIC_BASE_URL", "https://hooks.example/"),
            ("PORT", "8080"),
            ("DATABASE_URL", "postgres://db/app?sslmode=require"),
            ("CONTROL_DATABASE_URL", "sqlite://mine.db"),
            ("TWILIO_PHONE_NUMBER", " "),
        ]);
        let (filled, taken) = filled_in(&given);
        assert_eq!(filled["CONTROL_PUBLIC_URL"], "https://hooks.example");
        assert_eq!(filled["CONTROL_LISTEN"], "0.0.0.0:8080");
        assert_eq!(filled["CONTROL_DATABASE_URL"], "sqlite://mine.db");
        assert!(!filled.contains_key("CONTROL_FROM_NUMBER"));
        assert_eq!(taken["CONTROL_LISTEN"], "PORT");
        assert!(!taken.contains_key("CONTROL_DATABASE_URL"));
    }

    #[test]
    fn every_alias_stands_for_a_setting_that_exists() {
        for alias in ALIASES {
            assert_eq!(super::super::settings::setting(alias.of).name, alias.of);
        }
    }
}
