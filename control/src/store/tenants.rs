//! Tenants: their settings, and the limits that the operator sets for them.

use link::id::{TenantId, WallTime};
use serde_json::json;
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::audit::{self, Deed};
use super::rows::parsed;
use super::tx::{Scope, Tx, on};
use super::{Store, StoreError};
use crate::access::key::KeyId;
use crate::access::origin::Origin;

/// A tenant and everything that is settled for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// The web pages that may ask for it.
    pub origins: Vec<Origin>,
    /// What bounds it.
    pub limits: TenantLimits,
    /// Grows with every change.
    pub version: u32,
    /// When it was made.
    pub created_at: WallTime,
}

/// What bounds a tenant; `None` is no bound. Set by the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// The calling codes, such as `+49`, with one of which a called number must begin.
    pub countries: Option<Vec<String>>,
    /// Calls that are begun in a minute.
    pub calls_minute_max: Option<u32>,
    /// Calls at once.
    pub calls_max: Option<u32>,
    /// What calls may cost in a day (UTC), in hundredths of the account's currency.
    pub spend_day_cents_max: Option<u32>,
    /// API requests in a second.
    pub requests_second_max: Option<u32>,
}

impl TenantLimits {
    /// Whether a number in E.164 may be called.
    #[must_use]
    pub fn may_call(&self, number: &str) -> bool {
        let Some(countries) = &self.countries else { return true };
        countries.iter().any(|code| number.starts_with(code.as_str()))
    }

    /// How many calls there may be at once; `None` when as many as come.
    #[must_use]
    pub fn at_once(&self) -> Option<u32> {
        // None at all a minute is none at once, too.
        if self.calls_minute_max == Some(0) { Some(0) } else { self.calls_max }
    }
}

/// What became of a wish to change a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// As it is since.
    Done(Box<Tenant>),
    /// Somebody else has changed it since: this is the version it has.
    Outdated(u32),
    /// There is no such tenant.
    Unknown,
}

impl Store {
    /// Every tenant, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let mut tx = self.db().survey().await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_ALL).fetch_all(c).await)?)
    }

    /// Makes a tenant; false when it was there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_tenant(
        &self,
        id: &TenantId,
        actor: &KeyId,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(id)).await?;
        let made = on!(tx, |c| sqlx::query(INSERT)
            .bind(id.as_str())
            .bind(now.0)
            .execute(c)
            .await
            .map(|done| done.rows_affected()))?;
        if made > 0 {
            let (action, subject) = ("tenant.created", id.as_str());
            let deed = Deed { actor, action, subject, detail: "{}".to_owned() };
            audit::note(&mut tx, id, &deed, now).await?;
        }
        tx.commit().await?;
        Ok(made > 0)
    }

    /// Changes a tenant, if it still has the `expected` version or none was expected, and says so
    /// in the audit log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn change_tenant(
        &self,
        id: &TenantId,
        expected: Option<u32>,
        actor: &KeyId,
        now: WallTime,
        change: impl FnOnce(&mut Tenant) + Send,
    ) -> Result<Changed, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(id)).await?;
        let sql = tx.pick(SELECT_LOCKED);
        let found = on!(tx, |c| sqlx::query_as(sql).bind(id.as_str()).fetch_optional(c).await)?;
        let Some(mut tenant): Option<Tenant> = found else { return Ok(Changed::Unknown) };
        if expected.is_some_and(|expected| expected != tenant.version) {
            return Ok(Changed::Outdated(tenant.version));
        }
        change(&mut tenant);
        tenant.version = tenant.version.saturating_add(1);
        save(&mut tx, &tenant).await?;
        let origins: Vec<_> = tenant.origins.iter().map(Origin::as_str).collect();
        let limits = &tenant.limits;
        let detail = json!({
            "version": tenant.version,
            "origins": origins,
            "countries": limits.countries,
            "calls_minute_max": limits.calls_minute_max,
            "calls_max": limits.calls_max,
            "spend_day_cents_max": limits.spend_day_cents_max,
            "requests_second_max": limits.requests_second_max,
        })
        .to_string();
        let (action, subject) = ("tenant.changed", id.as_str());
        audit::note(&mut tx, id, &Deed { actor, action, subject, detail }, now).await?;
        tx.commit().await?;
        Ok(Changed::Done(Box::new(tenant)))
    }
}

async fn save(tx: &mut Tx, tenant: &Tenant) -> Result<(), StoreError> {
    let origins: Vec<_> = tenant.origins.iter().map(Origin::as_str).collect();
    let (origins, limits) = (json!(origins).to_string(), &tenant.limits);
    let countries = limits.countries.as_ref().map(|codes| json!(codes).to_string());
    on!(*tx, |c| sqlx::query(UPDATE)
        .bind(tenant.id.as_str())
        .bind(origins)
        .bind(countries)
        .bind(limits.calls_minute_max.map(i64::from))
        .bind(limits.calls_max.map(i64::from))
        .bind(limits.spend_day_cents_max.map(i64::from))
        .bind(limits.requests_second_max.map(i64::from))
        .bind(i64::from(tenant.version))
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

impl<'r, R: Row> FromRow<'r, R> for Tenant
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let maximum = |column: &'static str| {
            let value: Option<i64> = row.try_get(column)?;
            value.map(|value| parsed(column, u32::try_from(value))).transpose()
        };
        let list = |column, text: &str| parsed(column, serde_json::from_str::<Vec<String>>(text));
        let countries: Option<String> = row.try_get("countries")?;
        let origins = list("origins", &row.try_get::<String, _>("origins")?)?;
        Ok(Self {
            id: parsed("id", TenantId::new(row.try_get::<String, _>("id")?))?,
            // What a newer release takes for an origin is none here.
            origins: origins.iter().filter_map(|origin| Origin::parse(origin)).collect(),
            limits: TenantLimits {
                countries: countries.map(|text| list("countries", &text)).transpose()?,
                calls_minute_max: maximum("calls_minute_max")?,
                calls_max: maximum("calls_max")?,
                spend_day_cents_max: maximum("spend_day_cents_max")?,
                requests_second_max: maximum("requests_second_max")?,
            },
            version: parsed("version", u32::try_from(row.try_get::<i64, _>("version")?))?,
            created_at: WallTime(row.try_get("created_us")?),
        })
    }
}

macro_rules! columns {
    () => {
        "id, created_us, origins, countries, calls_minute_max, calls_max, spend_day_cents_max, \
         requests_second_max, version"
    };
}

const SELECT_ALL: &str = concat!("SELECT ", columns!(), " FROM tenants ORDER BY id");

const SELECT_LOCKED: super::tx::Sql = super::tx::Sql {
    postgres: concat!("SELECT ", columns!(), " FROM tenants WHERE id = $1 FOR UPDATE"),
    sqlite: concat!("SELECT ", columns!(), " FROM tenants WHERE id = $1"),
};

const INSERT: &str =
    "INSERT INTO tenants (id, created_us) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

const UPDATE: &str = "UPDATE tenants SET origins = $2, countries = $3, calls_minute_max = $4, \
     calls_max = $5, spend_day_cents_max = $6, requests_second_max = $7, version = $8 \
     WHERE id = $1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_begin_no_call_in_a_minute_may_have_none_at_once() {
        let limits = TenantLimits { calls_max: Some(3), ..TenantLimits::default() };
        assert_eq!((limits.at_once(), TenantLimits::default().at_once()), (Some(3), None));
        assert_eq!(TenantLimits { calls_minute_max: Some(0), ..limits }.at_once(), Some(0));
    }

    #[test]
    fn a_number_is_called_in_the_countries_that_are_listed() {
        let limits = |codes: &[&str]| TenantLimits {
            countries: Some(codes.iter().map(|code| (*code).to_owned()).collect()),
            ..TenantLimits::default()
        };
        assert!(TenantLimits::default().may_call("+15550100"));
        assert!(limits(&["+49", "+1"]).may_call("+15550100"));
        assert!(!limits(&["+49"]).may_call("+15550100"));
        assert!(!limits(&[]).may_call("+15550100"));
    }
}
