//! `connect_to: IP` or `IP:PORT`.

use std::net::{IpAddr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::ConnectTo;

impl ConnectTo {
    /// The socket to connect to, with `port` where none is written.
    #[must_use]
    pub fn socket(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

impl<'de> Deserialize<'de> for ConnectTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { ip, port: None });
        }
        let socket: SocketAddr = text.parse().map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is no address: write IP or IP:PORT, never a name"))
        })?;
        Ok(Self { ip: socket.ip(), port: Some(socket.port()) })
    }
}

impl JsonSchema for ConnectTo {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConnectTo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "IP or IP:PORT" })
    }
}
