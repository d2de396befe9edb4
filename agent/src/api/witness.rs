//! What this place sees of a pair's primary, signed for a daemon that has it among its witnesses.
//!
//! It is served without a token, since its integrity is the signature over the asker's nonce, and its content no more
//! than which of three domains of A live.

use understudy_core::{Domain, DomainState, PairView, Reading, Reason, Site, View, WitnessKind};
use understudy_probes::{DomainSeen, Testimony};

/// Longer nonces are nobody's.
const MAX_NONCE: usize = 128;

/// Whether `nonce` may be signed: short and plain, so that nothing else can be made of it.
pub fn is_nonce(nonce: &str) -> bool {
    (8..=MAX_NONCE).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// What `view` says of `pair`, from where this place stands.
pub fn testimony(view: &View, pair: &PairView, kind: WitnessKind, nonce: &str) -> Testimony {
    let seen = pair.domains.iter().filter_map(|(domain, state)| {
        let reading = reading_of(pair, *domain, *state)?;
        Some(DomainSeen { domain: *domain, reading })
    });
    Testimony {
        nonce: nonce.to_owned(),
        pair: pair.name.clone(),
        kind,
        blind: view.doubt.is_some(),
        domains: seen.collect(),
    }
}

fn reading_of(pair: &PairView, domain: Domain, state: DomainState) -> Option<Reading> {
    let voters = || pair.signals.iter().filter(|s| s.site == Some(Site::A) && s.domain == Some(domain) && s.votes);
    match state {
        DomainState::NoVoter => None,
        // What lives in part is not dead: a sign of life vetoes (S4).
        DomainState::Up | DomainState::Partly => Some(Reading::Up),
        DomainState::Down => Some(voters().map(|s| s.state).find(|s| s.is_down()).unwrap_or(NO_REASON)),
        DomainState::Unknown => Some(voters().map(|s| s.state).find(|s| !s.is_up()).unwrap_or(NO_REASON)),
    }
}

/// The view contradicts itself; that is no evidence.
const NO_REASON: Reading = Reading::Unknown(Reason::Unmapped);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::view;

    #[test]
    fn a_domain_is_told_with_its_reason_and_one_without_voters_is_not_told() {
        let view = view();

        let said = testimony(&view, &view.pairs[0], WitnessKind::ThirdSite, "12345678");

        assert_eq!(said.domains, [DomainSeen { domain: Domain::Service, reading: Reading::Down(Reason::Refused) }]);
        assert!(!said.blind);
    }

    #[test]
    fn a_domain_that_lives_in_part_is_told_as_life() {
        let mut view = view();
        view.pairs[0].domains = vec![(Domain::Service, DomainState::Partly)];

        let said = testimony(&view, &view.pairs[0], WitnessKind::ThirdSite, "12345678");

        assert_eq!(said.domains[0].reading, Reading::Up);
    }

    #[test]
    fn a_witness_that_doubts_itself_says_so() {
        let mut view = view();
        view.doubt = Some("own-api is Down".into());

        assert!(testimony(&view, &view.pairs[0], WitnessKind::ThirdSite, "12345678").blind);
    }

    #[test]
    fn a_nonce_is_short_and_plain() {
        assert!(is_nonce("0192f0c1a2b34c5d8e9f"));
        assert!(!is_nonce("short"));
        assert!(!is_nonce("with.dot.and.more"));
        assert!(!is_nonce(&"a".repeat(129)));
    }
}
