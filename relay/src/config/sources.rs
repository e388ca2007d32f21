//! What stands in for settings that are not set: credentials for secrets, and the names that a
//! platform gives its machines.

use link::credential;

use super::settings::{Form, SETTINGS};
use super::{Environment, Mistake};
use crate::front::Front;

/// A machine's own id and where it stands, on Fly.
const MACHINE: &str = "FLY_MACHINE_ID";
const STAND_INS: [(&str, &str); 2] = [(MACHINE, "RELAY_NODE"), ("FLY_REGION", "RELAY_REGION")];

/// The settings with what stands in for those that are missing, and what is wrong with that.
pub(super) fn filled_in(environment: &Environment) -> (Environment, Vec<Mistake>) {
    let mut filled = environment.clone();
    for (name, of) in STAND_INS {
        if let (Some(value), None) = (given(environment, name), given(environment, of)) {
            filled.insert(of.to_owned(), value.to_owned());
        }
    }
    let secrets = SETTINGS.iter().filter(|setting| matches!(setting.form, Form::Secret(_)));
    let names = secrets.map(|setting| setting.name);
    let unreadable = credential::fill_in(&mut filled, names, std::fs::read_to_string);
    let mistake = |it: credential::Unreadable| Mistake { name: it.name, problem: it.problem };
    (filled, unreadable.into_iter().map(mistake).collect())
}

/// What stands in front of the public port. A node with a name of its own on a platform that names
/// its machines cannot be found by that name, so nothing is replayed there.
pub(super) fn front(environment: &Environment) -> Front {
    match given(environment, MACHINE) {
        Some(machine) if given(environment, "RELAY_NODE") == Some(machine) => Front::Fly,
        Some(_) | None => Front::Plain,
    }
}

fn given<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_machine_of_the_platform_is_a_node_of_its_name() {
        let given = environment(&[(MACHINE, "3d8d413b29d089"), ("FLY_REGION", "fra")]);
        let (filled, mistakes) = filled_in(&given);
        assert_eq!(mistakes, []);
        assert_eq!(filled["RELAY_NODE"], "3d8d413b29d089");
        assert_eq!(filled["RELAY_REGION"], "fra");
        assert_eq!(front(&filled), Front::Fly);
    }

    #[test]
    fn a_node_with_a_name_of_its_own_keeps_it_and_is_replayed_to_by_nobody() {
        let given = environment(&[(MACHINE, "3d8d413b29d089"), ("RELAY_NODE", "iad-1")]);
        let (filled, _) = filled_in(&given);
        assert_eq!(filled["RELAY_NODE"], "iad-1");
        assert_eq!(front(&filled), Front::Plain);
        assert_eq!(front(&environment(&[("RELAY_NODE", "n1")])), Front::Plain);
    }

    #[test]
    fn a_secret_that_is_not_set_is_taken_from_its_credential() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("OPENAI_API_KEY"), "sk-filed\n").unwrap();
        std::fs::write(folder.path().join("RELAY_NODE"), "n2").unwrap();
        let path = folder.path().to_str().unwrap();
        let (filled, mistakes) = filled_in(&environment(&[(credential::DIRECTORY, path)]));
        assert_eq!(mistakes, []);
        assert_eq!(filled["OPENAI_API_KEY"].trim(), "sk-filed");
        assert!(!filled.contains_key("RELAY_NODE"), "only secrets are credentials");
    }
}
