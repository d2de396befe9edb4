//! The JSON Schema of the file, from the same types that read it.

use schemars::Schema;

use crate::Config;

/// The schema of the whole file, for editors and for `understudy schema`.
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(Config)
}
