//! The core's words by their names in the file.

/// The core's mode by its name in the file.
pub(super) mod mode {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer};
    use understudy_core::Mode;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[schemars(rename = "Mode")]
    pub enum Name {
        Observe,
        Confirm,
        Auto,
    }

    impl From<Name> for Mode {
        fn from(name: Name) -> Mode {
            match name {
                Name::Observe => Mode::Observe,
                Name::Confirm => Mode::Confirm,
                Name::Auto => Mode::Auto,
            }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        Name::deserialize(deserializer).map(Mode::from)
    }
}

pub(super) mod optional_mode {
    use serde::{Deserialize, Deserializer};
    use understudy_core::Mode;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mode>, D::Error> {
        Option::<super::mode::Name>::deserialize(deserializer).map(|name| name.map(Mode::from))
    }
}

pub(super) mod witness_kind {
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer};
    use understudy_core::WitnessKind;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[schemars(rename = "WitnessKind")]
    pub enum Name {
        PrimarySite,
        ThirdSite,
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WitnessKind, D::Error> {
        Name::deserialize(deserializer).map(|name| match name {
            Name::PrimarySite => WitnessKind::PrimarySite,
            Name::ThirdSite => WitnessKind::ThirdSite,
        })
    }
}

/// A domain by its name in the file; for the schema alone.
#[derive(schemars::JsonSchema)]
#[schemars(rename = "Domain", rename_all = "snake_case")]
#[expect(dead_code, reason = "the schema is all that is wanted of it")]
pub(super) enum DomainName {
    /// The Nexus itself.
    Service,
    /// The Kubernetes API server.
    ControlPlane,
    /// Ceph.
    Storage,
}
