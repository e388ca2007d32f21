//! Webhooks: where customers are told of events, how far each has been told, and what was given up.
//!
//! There is no row for a message to send: a webhook is a place in its tenant's stream of events,
//! which are durable and in order already. Who sends is in [`crate::webhooks`].

use link::id::{TenantId, WallTime};
use link::secret::Secret;
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::idempotency::Once;
use super::tx::{Scope, on};
use super::{Store, StoreError};
use crate::events::Seq;

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where events are posted.
    pub url: String,
    /// Which events, by their types; empty means all.
    pub types: Vec<String>,
    /// When it was made.
    pub created_at: WallTime,
    /// Everything up to here was told, was not wanted, or was given up.
    pub after: Seq,
    /// How often what follows was tried in vain.
    pub attempts: u32,
    /// Not before this moment is it tried again.
    pub due_at: WallTime,
    /// What was wrong at the last try; `None` when nothing was.
    pub problem: Option<String>,
    /// When its receiver said that it is gone; `None` while it is told.
    pub disabled_at: Option<WallTime>,
}

/// A webhook to be made.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where events are posted.
    pub url: String,
    /// Which events, by their types; empty means all.
    pub types: Vec<String>,
    /// What messages are signed with.
    pub secret: Secret,
}

/// Events that were given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The place of the first of them.
    pub first: Seq,
    /// The place of the last of them.
    pub last: Seq,
    /// How often they were tried.
    pub attempts: u32,
    /// What was wrong at the last try.
    pub problem: String,
    /// When they were given up.
    pub at: WallTime,
}

/// How a try to tell a webhook went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was told, or wanted nothing, up to here.
    Through(Seq),
    /// It was not, and is to be tried again.
    Later {
        /// When.
        due_at: WallTime,
        /// What was wrong.
        problem: String,
    },
    /// It was tried often enough: these are given up.
    Dead(DeadLetter),
    /// Its receiver is gone for good.
    Gone {
        /// When it said so.
        at: WallTime,
    },
}

impl Store {
    /// Makes a webhook that is told what happens from this moment on; with `once`, for a request
    /// that may come twice.
    ///
    /// # Errors
    /// When the database fails, or the secret cannot be sealed.
    pub async fn make_webhook(
        &self,
        new: &NewWebhook,
        once: Option<&Once>,
        now: WallTime,
    ) -> Result<Webhook, StoreError> {
        let sealing = &self.inner.sealing;
        let secret = sealing.seal(&secret_name(&new.id), new.secret.reveal().as_bytes())?;
        let types = serde_json::to_string(&new.types).expect("texts are JSON");
        let mut tx = self.db().write(Scope::Tenant(&new.tenant)).await?;
        if let Some(once) = once {
            once.hold(&mut tx).await?;
        }
        let made = on!(tx, |c| sqlx::query_as(INSERT)
            .bind(&new.id)
            .bind(new.tenant.as_str())
            .bind(&new.url)
            .bind(&types)
            .bind(&secret)
            .bind(now.0)
            .fetch_one(c)
            .await)?;
        tx.commit().await?;
        Ok(made)
    }

    /// A tenant's webhooks.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_ALL).bind(tenant.as_str()).fetch_all(c).await)?)
    }

    /// A webhook; `None` when the tenant has none of this name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn webhook(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<Webhook>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_ONE)
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(c)
            .await)?)
    }

    /// Removes a webhook and what it was not told; whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_webhook(&self, tenant: &TenantId, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.db().write(Scope::Tenant(tenant)).await?;
        let mut removed = 0;
        // The webhook last: it is what counts.
        for sql in [DELETE_DEAD, DELETE] {
            removed = on!(tx, |c| sqlx::query(sql)
                .bind(tenant.as_str())
                .bind(id)
                .execute(c)
                .await
                .map(|done| done.rows_affected()))?;
        }
        tx.commit().await?;
        Ok(removed > 0)
    }

    /// What a webhook was not told and will not be, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_letters(
        &self,
        tenant: &TenantId,
        id: &str,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(tenant)).await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_DEAD)
            .bind(tenant.as_str())
            .bind(id)
            .bind(i64::from(limit))
            .fetch_all(c)
            .await)?)
    }

    /// Webhooks of all tenants that something is to be told now, those that wait longest first.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn due_webhooks(&self, now: WallTime) -> Result<Vec<Webhook>, StoreError> {
        let mut tx = self.db().survey().await?;
        Ok(on!(tx, |c| sqlx::query_as(SELECT_DUE).bind(now.0).bind(DUE_MAX).fetch_all(c).await)?)
    }

    /// What a webhook's messages are signed with; `None` when it was removed.
    ///
    /// # Errors
    /// When the database fails, or it was sealed with another key.
    pub(crate) async fn webhook_secret(
        &self,
        hook: &Webhook,
    ) -> Result<Option<Secret>, StoreError> {
        let mut tx = self.db().read(Scope::Tenant(&hook.tenant)).await?;
        let sealed: Option<Vec<u8>> = on!(tx, |c| sqlx::query_scalar(SELECT_SECRET)
            .bind(hook.tenant.as_str())
            .bind(&hook.id)
            .fetch_optional(c)
            .await)?;
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = self.inner.sealing.open(&secret_name(&hook.id), &sealed)?;
        let text = std::str::from_utf8(&opened);
        let text = text.map_err(|_| StoreError::Row { what: "webhook secret" })?;
        Ok(Some(Secret::new(text)))
    }

    /// Writes down how a try went. Nothing, when somebody else has told it in between.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn webhook_told(&self, hook: &Webhook, told: Told) -> Result<(), StoreError> {
        let attempts = i64::from(hook.attempts) + 1;
        let (after, attempts, due, problem, disabled) = match &told {
            Told::Through(seq) => (*seq, 0, 0, None, None),
            Told::Later { due_at, problem } => {
                (hook.after, attempts, due_at.0, Some(problem.as_str()), None)
            }
            Told::Dead(letter) => (letter.last, 0, 0, Some(letter.problem.as_str()), None),
            Told::Gone { at } => (hook.after, attempts, 0, Some(GONE), Some(at.0)),
        };
        let mut tx = self.db().write(Scope::Tenant(&hook.tenant)).await?;
        let moved: Option<String> = on!(tx, |c| sqlx::query_scalar(UPDATE)
            .bind(hook.tenant.as_str())
            .bind(&hook.id)
            .bind(hook.after.0.cast_signed())
            .bind(after.0.cast_signed())
            .bind(attempts)
            .bind(due)
            .bind(problem)
            .bind(disabled)
            .fetch_optional(c)
            .await)?;
        if let (Some(_), Told::Dead(letter)) = (moved, &told) {
            on!(tx, |c| sqlx::query(INSERT_DEAD)
                .bind(&hook.id)
                .bind(hook.tenant.as_str())
                .bind(letter.first.0.cast_signed())
                .bind(letter.last.0.cast_signed())
                .bind(i64::from(letter.attempts))
                .bind(&letter.problem)
                .bind(letter.at.0)
                .execute(c)
                .await
                .map(drop))?;
        }
        tx.commit().await
    }
}

/// What the secret is sealed under: a row that was copied to another webhook does not open.
fn secret_name(id: &str) -> String {
    format!("webhook-{id}")
}

impl<'r, R: Row> FromRow<'r, R> for Webhook
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let number = |column| row.try_get::<i64, _>(column);
        let types: String = row.try_get("types")?;
        let malformed = |source: Box<dyn std::error::Error + Send + Sync>| Error::ColumnDecode {
            index: "webhook".into(),
            source,
        };
        let tenant: String = row.try_get("tenant")?;
        Ok(Self {
            id: row.try_get("id")?,
            tenant: TenantId::new(tenant).map_err(|error| malformed(error.into()))?,
            url: row.try_get("url")?,
            types: serde_json::from_str(&types).map_err(|error| malformed(error.into()))?,
            created_at: WallTime(number("created_us")?),
            after: Seq(number("after_seq")?.cast_unsigned()),
            attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
            due_at: WallTime(number("due_us")?),
            problem: row.try_get("problem")?,
            disabled_at: row.try_get::<Option<i64>, _>("disabled_us")?.map(WallTime),
        })
    }
}

impl<'r, R: Row> FromRow<'r, R> for DeadLetter
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let number = |column| row.try_get::<i64, _>(column);
        Ok(Self {
            first: Seq(number("first_seq")?.cast_unsigned()),
            last: Seq(number("last_seq")?.cast_unsigned()),
            attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
            problem: row.try_get("problem")?,
            at: WallTime(number("at_us")?),
        })
    }
}

macro_rules! columns {
    ($table:literal) => {
        concat!(
            $table,
            "id, ",
            $table,
            "tenant, ",
            $table,
            "url, ",
            $table,
            "types, ",
            $table,
            "created_us, ",
            $table,
            "after_seq, ",
            $table,
            "attempts, ",
            $table,
            "due_us, ",
            $table,
            "problem, ",
            $table,
            "disabled_us"
        )
    };
}

/// Behind the last event that there is.
const INSERT: &str = concat!(
    "INSERT INTO webhooks (id, tenant, url, types, secret, created_us, after_seq) \
     VALUES ($1, $2, $3, $4, $5, $6, coalesce((SELECT seq FROM heads WHERE tenant = $2), 0)) \
     RETURNING ",
    columns!("")
);

const SELECT_ALL: &str =
    concat!("SELECT ", columns!(""), " FROM webhooks WHERE tenant = $1 ORDER BY id");

const SELECT_ONE: &str =
    concat!("SELECT ", columns!(""), " FROM webhooks WHERE tenant = $1 AND id = $2");

const DELETE: &str = "DELETE FROM webhooks WHERE tenant = $1 AND id = $2";
const DELETE_DEAD: &str = "DELETE FROM dead_letters WHERE tenant = $1 AND webhook = $2";

const SELECT_DEAD: &str = "SELECT first_seq, last_seq, attempts, problem, at_us \
     FROM dead_letters WHERE tenant = $1 AND webhook = $2 ORDER BY first_seq DESC LIMIT $3";

const SELECT_DUE: &str = concat!(
    "SELECT ",
    columns!("webhooks."),
    " FROM webhooks JOIN heads ON heads.tenant = webhooks.tenant \
     WHERE disabled_us IS NULL AND due_us <= $1 AND heads.seq > after_seq \
     ORDER BY due_us, webhooks.id LIMIT $2"
);

const SELECT_SECRET: &str = "SELECT secret FROM webhooks WHERE tenant = $1 AND id = $2";

/// Only from where it stood: of two that tell at once, the later word counts for nothing.
const UPDATE: &str = "UPDATE webhooks SET after_seq = $4, attempts = $5, due_us = $6, \
     problem = $7, disabled_us = $8 WHERE tenant = $1 AND id = $2 AND after_seq = $3 RETURNING id";

const INSERT_DEAD: &str = "INSERT INTO dead_letters \
     (webhook, tenant, first_seq, last_seq, attempts, problem, at_us) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (webhook, first_seq) DO NOTHING";

const GONE: &str = "the receiver answered 410: it wants no more";

/// Webhooks that are looked at at once; the others follow at once.
const DUE_MAX: i64 = 256;
