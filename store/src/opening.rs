//! The opening transaction: version check, migrations, and the boot row. The same for each engine.

use crate::lineage::{append_boot, load, schema_version, set_last_commit, set_schema_version};
use crate::{Lineage, OpenError, Opening, Schema, StoreError, Txn};

/// Runs inside the engine's first transaction, whose commit number is already known to `txn`.
pub(crate) fn run(
    txn: &mut dyn Txn,
    schema: &Schema,
    opening: &Opening,
) -> Result<Lineage, OpenError> {
    match schema_version(txn).map_err(OpenError::Store)? {
        None => Lineage::renew(txn, opening.incarnation).map_err(OpenError::Store)?,
        Some(found) => migrate(txn, schema, u32::try_from(found).unwrap_or(u32::MAX))?,
    }
    begin_boot(txn, schema, opening).map_err(OpenError::Store)
}

fn migrate(txn: &mut dyn Txn, schema: &Schema, found: u32) -> Result<(), OpenError> {
    if found > schema.version {
        return Err(OpenError::NewerSchema { found, known: schema.version });
    }
    for to in found.saturating_add(1)..=schema.version {
        for step in schema.migrations.iter().filter(|step| step.to == to) {
            (step.run)(txn).map_err(|source| OpenError::Migration { to, source })?;
        }
    }
    Ok(())
}

fn begin_boot(
    txn: &mut dyn Txn,
    schema: &Schema,
    opening: &Opening,
) -> Result<Lineage, StoreError> {
    let commit = txn.commit_number();
    set_schema_version(txn, schema.version)?;
    append_boot(txn, opening.boot, commit - 1)?;
    set_last_commit(txn, commit)?;
    load(txn)
}
