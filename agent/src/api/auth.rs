//! Who is asking, and what he may do.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use understudy_config::{ApiRole, Token};
use understudy_core::Order;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// From this machine: the kernel vouches for the user.
    Local {
        /// His number.
        uid: u32,
    },
    /// Over TLS: a token must vouch for him.
    Remote {
        /// From where.
        address: SocketAddr,
    },
    /// Over plain TCP: nobody vouches for him.
    Plain,
}

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As the journal names him: `uid N` or `token SUBJECT`.
    pub name: String,
    /// What he may do.
    pub role: ApiRole,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// He brought no token.
    NoToken,
    /// He brought one that nobody has.
    WrongToken,
    /// Nothing of this is served here.
    NotHere,
}

/// Who `peer` is. Tokens are read anew each time: one that was replaced is void at once.
pub fn identify(peer: Peer, headers: &HeaderMap, tokens: &[Token]) -> Result<Caller, Stranger> {
    match peer {
        // The permissions of the state directory decide who gets here.
        Peer::Local { uid } => Ok(Caller { name: format!("uid {uid}"), role: ApiRole::Operator }),
        Peer::Remote { .. } => by_token(headers, tokens),
        Peer::Plain => Err(Stranger::NotHere),
    }
}

fn by_token(headers: &HeaderMap, tokens: &[Token]) -> Result<Caller, Stranger> {
    let given = Sha256::digest(bearer(headers)?.as_bytes());
    // Every token is compared, whichever matches.
    let mut found = None;
    for token in tokens {
        match token.token.read() {
            Ok(secret) if same(&given, &Sha256::digest(secret.expose_secret().as_bytes())) => found = Some(token),
            Ok(_) => {}
            Err(error) => tracing::warn!(subject = token.subject, "a token can not be read: {error}"),
        }
    }
    let token = found.ok_or(Stranger::WrongToken)?;
    Ok(Caller { name: format!("token {}", token.subject), role: token.role })
}

/// The token that somebody brought.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Stranger> {
    let header = headers.get(AUTHORIZATION).ok_or(Stranger::NoToken)?.to_str().map_err(|_| Stranger::WrongToken)?;
    let (scheme, given) = header.split_once(' ').ok_or(Stranger::WrongToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Stranger::WrongToken);
    }
    Ok(given.trim())
}

/// Compares digests in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0 && a.len() == b.len()
}

/// What an order takes.
pub fn role_for(order: &Order) -> ApiRole {
    match order {
        Order::Approve { .. } | Order::Deny { .. } => ApiRole::Approver,
        Order::Failover { .. }
        | Order::Retry { .. }
        | Order::Skip { .. }
        | Order::Abandon { .. }
        | Order::Pause { .. }
        | Order::Resume
        | Order::Unblock => ApiRole::Operator,
    }
}

/// The role's name, as it stands in the configuration.
pub fn role_name(role: ApiRole) -> &'static str {
    match role {
        ApiRole::Viewer => "viewer",
        ApiRole::Approver => "approver",
        ApiRole::Operator => "operator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_the_same_only_if_every_byte_is() {
        assert!(same(&[1, 2, 3], &[1, 2, 3]));
        assert!(!same(&[1, 2, 3], &[1, 2, 4]));
        assert!(!same(&[9, 2, 3], &[1, 2, 3]));
        assert!(!same(&[1, 2], &[1, 2, 3]));
    }

    #[test]
    fn a_peer_of_this_machine_is_named_by_his_uid() {
        let caller = identify(Peer::Local { uid: 1000 }, &HeaderMap::new(), &[]).unwrap();

        assert_eq!(caller, Caller { name: "uid 1000".into(), role: ApiRole::Operator });
    }

    #[test]
    fn nobody_is_known_over_plain_tcp_whatever_he_brings() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer right".parse().unwrap());

        assert_eq!(identify(Peer::Plain, &headers, &[]), Err(Stranger::NotHere));
    }
}
