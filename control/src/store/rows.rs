//! Rows of either engine as values. Written by hand: the derive builds the drivers twice.

use std::str::FromStr;

use link::id::{AgentName, CallId, Gen, NodeId, RunId, TenantId, WallTime};
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use super::call::{Call, CarrierIds, Number};
use super::dials::{Dial, DialState};
use crate::events::{Record, Seq};

/// The columns of a call, in the order of the table.
macro_rules! call_columns {
    () => {
        "id, tenant, account_sid, call_sid, direction, from_number, to_number, agent, \
         agent_version, generation, node, state, end_reason, end_detail, transfer_to, \
         detach_reason, carrier_status, carrier_seq, resumes, created_us, answered_us, \
         detached_us, ended_us, resume_token, answered_by, run"
    };
}
pub(super) use call_columns;

impl<'r, R: Row> FromRow<'r, R> for Call
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let text = |column| row.try_get::<String, _>(column);
        let maybe_text = |column| row.try_get::<Option<String>, _>(column);
        let maybe_time =
            |column| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(WallTime));
        // Both or none: they are written together.
        let sids = maybe_text("account_sid")?.zip(maybe_text("call_sid")?);
        Ok(Self {
            id: parsed("id", CallId::new(text("id")?))?,
            tenant: parsed("tenant", TenantId::new(text("tenant")?))?,
            carrier: sids.map(|(account_sid, call_sid)| CarrierIds { account_sid, call_sid }),
            direction: word("direction", &text("direction")?)?,
            from: Number(text("from_number")?),
            to: Number(text("to_number")?),
            agent: parsed("agent", AgentName::new(text("agent")?))?,
            agent_version: small("agent_version", row.try_get("agent_version")?)?,
            generation: Gen(small("generation", row.try_get("generation")?)?),
            node: maybe_text("node")?.map(|node| parsed("node", NodeId::new(node))).transpose()?,
            state: word("state", &text("state")?)?,
            end_reason: maybe_text("end_reason")?,
            end_detail: maybe_text("end_detail")?,
            transfer_to: maybe_text("transfer_to")?.map(Number),
            detach_reason: maybe_text("detach_reason")?,
            carrier_status: maybe_text("carrier_status")?,
            carrier_seq: row.try_get("carrier_seq")?,
            resumes: times("resumes", &text("resumes")?)?,
            created_at: WallTime(row.try_get("created_us")?),
            answered_at: maybe_time("answered_us")?,
            detached_at: maybe_time("detached_us")?,
            ended_at: maybe_time("ended_us")?,
            resume_token: maybe_text("resume_token")?,
            answered_by: maybe_text("answered_by")?
                .map(|by| word("answered_by", &by))
                .transpose()?,
            run: maybe_text("run")?.map(|run| parsed("run", RunId::new(run))).transpose()?,
        })
    }
}

/// The columns of a dial, in the order of the table.
macro_rules! dial_columns {
    () => {
        "call, tenant, account, from_number, to_number, state, attempt, tries, due_us, asked_us, \
         until_us, plan, past"
    };
}
pub(super) use dial_columns;

impl<'r, R: Row> FromRow<'r, R> for Dial
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let text = |column| row.try_get::<String, _>(column);
        let time = |column| Ok::<_, Error>(WallTime(row.try_get::<i64, _>(column)?));
        let past = text("past")?;
        Ok(Self {
            call: parsed("call", CallId::new(text("call")?))?,
            tenant: parsed("tenant", TenantId::new(text("tenant")?))?,
            account: text("account")?,
            from: Number(text("from_number")?),
            to: Number(text("to_number")?),
            state: word::<DialState>("state", &text("state")?)?,
            attempt: small("attempt", row.try_get("attempt")?)?,
            tries: small("tries", row.try_get("tries")?)?,
            due_at: time("due_us")?,
            asked_at: row.try_get::<Option<i64>, _>("asked_us")?.map(WallTime),
            until: time("until_us")?,
            plan: parsed("plan", serde_json::from_str(&text("plan")?))?,
            past: past.split(',').filter(|sid| !sid.is_empty()).map(str::to_owned).collect(),
        })
    }
}

/// A row of `events`.
#[derive(Debug)]
pub(super) struct EventRow(pub(super) Record);

impl<'r, R: Row> FromRow<'r, R> for EventRow
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let generation: Option<i64> = row.try_get("generation")?;
        let call: Option<String> = row.try_get("call")?;
        Ok(Self(Record {
            // Neither engine has unsigned columns; all bits go there and come back.
            seq: Seq(row.try_get::<i64, _>("seq")?.cast_unsigned()),
            kind: row.try_get("type")?,
            call: call.map(|call| parsed("call", CallId::new(call))).transpose()?,
            generation: generation.map(|g| small("generation", g).map(Gen)).transpose()?,
            at: WallTime(row.try_get("at_us")?),
            data: row.try_get("body")?,
        }))
    }
}

/// A row of `pending`: what control decided, before it has its place.
#[derive(Debug)]
pub(super) struct PendingRow {
    pub(super) id: i64,
    pub(super) tenant: TenantId,
    pub(super) record: Record,
}

impl<'r, R: Row> FromRow<'r, R> for PendingRow
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let tenant = row.try_get::<String, _>("tenant")?;
        let call = row.try_get::<String, _>("call")?;
        Ok(Self {
            id: row.try_get("id")?,
            tenant: parsed("tenant", TenantId::new(tenant))?,
            record: Record {
                seq: Seq(0),
                kind: row.try_get("type")?,
                call: Some(parsed("call", CallId::new(call))?),
                generation: Some(Gen(small("generation", row.try_get("generation")?)?)),
                at: WallTime(row.try_get("at_us")?),
                data: row.try_get("body")?,
            },
        })
    }
}

/// The text of the last resumes' moments.
pub(super) fn times_text(times: &[WallTime]) -> String {
    let texts: Vec<String> = times.iter().map(|at| at.0.to_string()).collect();
    texts.join(",")
}

fn times(column: &'static str, text: &str) -> Result<Vec<WallTime>, Error> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| parsed(column, part.parse().map(WallTime))).collect()
}

fn word<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    column: &'static str,
    text: &str,
) -> Result<T, Error> {
    parsed(column, text.parse())
}

fn small(column: &'static str, value: i64) -> Result<u32, Error> {
    parsed(column, u32::try_from(value))
}

pub(super) fn parsed<T, E>(column: &'static str, value: Result<T, E>) -> Result<T, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    value.map_err(|source| Error::ColumnDecode { index: column.into(), source: source.into() })
}
