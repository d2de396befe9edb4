use std::sync::Arc;

use understudy_core::{Failure, Step};

use super::*;
use crate::testing::dns::NameServer;
use crate::testing::nexus::FakeNexus;
use crate::testing::{Gate, context, nobody, pair, silent};

const A: &str = "10.1.0.20";
const B: &str = "10.2.0.20";
const NONCE: &str = "dr-canary/understudy/nexus/nonce-1";

#[tokio::test]
async fn the_route_is_proven_by_the_authority_and_by_the_nonce() {
    let (dns, nexus) = (NameServer::start(&[B], 60).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);

    let detail = Try::of(&nexus).authoritative(&dns).resolver(&dns).run().await.0.unwrap().detail;

    let expected = format!(
        "{0} answered with B; the nonce came back through {1}/; resolver {0} answers with B",
        dns.address,
        nexus.url()
    );
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn a_copy_that_lacks_the_nonce_is_not_b() {
    let (dns, nexus) = (NameServer::start(&[B], 60).await, FakeNexus::start().await);
    let absent = Try::of(&nexus).authoritative(&dns).within("300ms").run().await.0.unwrap_err();
    nexus.put(NONCE, "guessed", 0);
    let other = Try::of(&nexus).authoritative(&dns).within("300ms").run().await.0.unwrap_err();

    assert_eq!((absent.failure(), other.failure()), (Failure::Transient, Failure::Transient));
    assert!(absent.to_string().contains("the nonce did not come back through"), "{absent}");
    assert!(absent.to_string().contains("404 Not Found"), "{absent}");
    assert!(other.to_string().contains("has another content"), "{other}");
}

#[tokio::test]
async fn the_nonce_is_waited_for() {
    let nexus = FakeNexus::start().await;
    nexus.put(NONCE, "random", 0);
    nexus.inside().starting = 3;

    let (result, gate) = Try::of(&nexus).run().await;

    assert!(result.is_ok(), "{result:?}");
    assert!(gate.shown.lock().unwrap()[0].contains("the nonce did not come back"));
}

#[tokio::test]
async fn every_authoritative_server_must_answer_with_exactly_b() {
    let nexus = FakeNexus::start().await;
    nexus.put(NONCE, "random", 0);
    let right = NameServer::start(&[B], 60).await;
    for (addresses, expected) in [
        (&[A][..], "answers with 10.1.0.20 for 60 s more"),
        (&[A, B], "answers with 10.1.0.20, 10.2.0.20"),
        (&[B, "2001:db8:a::1"], "answers with 10.2.0.20, 2001:db8:a::1"),
        (&[], "answers with nothing"),
    ] {
        let wrong = NameServer::start(addresses, 60).await;

        let error =
            Try::of(&nexus).authoritative(&right).authoritative(&wrong).within("300ms").run().await.0.unwrap_err();

        assert_eq!(error.failure(), Failure::Transient);
        assert!(error.to_string().contains(&format!("authoritative server {} {expected}", wrong.address)), "{error}");
        assert!(!error.to_string().contains(&right.address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_resolver_that_still_answers_with_a_is_named_and_is_no_failure() {
    let (dns, cache, nexus) =
        (NameServer::start(&[B], 60).await, NameServer::start(&[A], 45).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);

    let (result, gate) = Try::of(&nexus).authoritative(&dns).resolver(&cache).within("600ms").run().await;

    let lagging = format!("resolver {} answers with 10.1.0.20 for 45 s more", cache.address);
    assert!(result.unwrap().detail.contains(&lagging));
    assert!(gate.shown.lock().unwrap().last().unwrap().contains(&lagging));
}

#[tokio::test]
async fn a_cache_is_followed_until_it_forgets() {
    let (dns, cache, nexus) =
        (NameServer::start(&[B], 60).await, NameServer::start(&[A], 45).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);

    let gate = Arc::<Gate>::default();
    let forgets = async {
        while gate.shown.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        cache.set(&[B], 60).await;
    };
    let (result, ()) = tokio::join!(Try::of(&nexus).authoritative(&dns).resolver(&cache).run_with(&gate), forgets);

    assert!(result.unwrap().detail.ends_with(&format!("resolver {} answers with B", cache.address)));
}

#[tokio::test]
async fn a_resolver_that_keeps_the_old_answer_for_longer_than_it_may_is_a_failure() {
    let (dns, pinned, nexus) =
        (NameServer::start(&[B], 60).await, NameServer::start(&[A], 0).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);

    let error = Try::of(&nexus).authoritative(&dns).resolver(&pinned).run().await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    let expected = format!("resolver {} answers with 10.1.0.20 for 0 s more", pinned.address);
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn the_old_time_to_live_counts_where_dns_update_wrote_it_down() {
    let (dns, pinned, nexus) =
        (NameServer::start(&[B], 60).await, NameServer::start(&[A], 0).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);
    let mut try_ = Try::of(&nexus).authoritative(&dns).resolver(&pinned).within("2600ms");
    try_.old_ttl = Some(300);

    // Longer than the time to live that it shows and the slack together, and still within the 300 s.
    let result = try_.run().await.0;

    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn a_resolver_that_does_not_answer_or_knows_no_name_is_named_and_not_waited_for() {
    let (dns, empty, nexus) =
        (NameServer::start(&[B], 60).await, NameServer::start(&[], 60).await, FakeNexus::start().await);
    nexus.put(NONCE, "random", 0);
    let mut try_ = Try::of(&nexus).authoritative(&dns).resolver(&empty);
    let nobody = nobody().await;
    try_.resolvers.push(nobody);

    let detail = try_.run().await.0.unwrap().detail;

    assert!(detail.contains(&format!("resolver {} answers with nothing", empty.address)), "{detail}");
    assert!(detail.contains(&format!("resolver {nobody} does not tell: ")), "{detail}");
}

#[tokio::test]
async fn a_public_address_that_hangs_ends_with_the_time() {
    let nexus = FakeNexus::start().await;
    let mut try_ = Try::of(&nexus).within("300ms");
    try_.public = format!("http://{}", silent().await);
    let began = Instant::now();

    let error = try_.run().await.0.unwrap_err();

    assert_eq!(error.failure(), Failure::Transient);
    // A single call may take 10 s by itself.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_check_that_could_prove_nothing_is_refused() {
    let (dns, nexus) = (NameServer::start(&[B], 60).await, FakeNexus::start().await);
    let mut no_nonce = Try::of(&nexus);
    no_nonce.nonce = false;
    let mut nothing = Try::of(&nexus).resolver(&dns);
    nothing.settings = "nonce_through_public: false,";
    let mut no_addresses = Try::of(&nexus).authoritative(&dns);
    no_addresses.expect = "[]";
    for (try_, expected) in [
        (no_nonce, "verify left no nonce artifact"),
        (nothing, "there is nothing that proves the route"),
        (no_addresses, "`expect` is empty"),
    ] {
        let error = try_.run().await.0.unwrap_err();

        assert_eq!(error.failure(), Failure::Permanent);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// One try of the step.
struct Try {
    public: String,
    authoritative: Vec<SocketAddr>,
    resolvers: Vec<SocketAddr>,
    settings: &'static str,
    within: &'static str,
    expect: &'static str,
    nonce: bool,
    old_ttl: Option<u32>,
}

impl Try {
    fn of(nexus: &FakeNexus) -> Self {
        Self {
            public: nexus.url(),
            authoritative: vec![],
            resolvers: vec![],
            settings: "",
            within: "20s",
            expect: "[10.2.0.20]",
            nonce: true,
            old_ttl: None,
        }
    }

    fn authoritative(mut self, server: &NameServer) -> Self {
        self.authoritative.push(server.address);
        self
    }

    fn resolver(mut self, server: &NameServer) -> Self {
        self.resolvers.push(server.address);
        self
    }

    fn within(mut self, within: &'static str) -> Self {
        self.within = within;
        self
    }

    async fn run(self) -> (Result<StepDone, StepError>, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        (self.run_with(&gate).await, gate)
    }

    async fn run_with(self, gate: &Arc<Gate>) -> Result<StepDone, StepError> {
        let servers = |addresses: &[SocketAddr]| {
            let quoted: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let pair = pair(&format!(
            "nexus: {{ primary: {{ url: 'http://a.invalid' }}, standby: {{ url: 'http://b.invalid' }}, public: {{ url: '{}' }} }}, \
             route_check: {{ name: nexus.example.net, authoritative: {}, resolvers: {}, expect: {}, {} within: {} }}, {}",
            self.public,
            servers(&self.authoritative),
            servers(&self.resolvers),
            self.expect,
            self.settings,
            self.within,
            DNS_ROUTE
        ));
        let mut ctx = context(pair, Step::RouteCheck, gate);
        let order = Arc::get_mut(&mut ctx.order).unwrap();
        if self.nonce {
            let nonce = Nonce { path: NONCE.into(), content: "random".into() };
            order.nonce = Some(nonce.path.clone());
            order.notes.insert("verify/nonce".into(), nonce.note().unwrap());
        }
        if let Some(ttl) = self.old_ttl {
            order.notes.insert("route-0/before".into(), format!("nexus.example.net. {ttl} 10.1.0.20"));
        }
        run(&ctx).await
    }
}

/// The target whose note may tell the old time to live.
const DNS_ROUTE: &str = "route: [{ dns_update: { server: '127.0.0.1:53', zone: example.net, name: nexus, \
    to: [10.2.0.20], from: [10.1.0.20], key_name: k, tsig: 'env:NONE' } }]";
