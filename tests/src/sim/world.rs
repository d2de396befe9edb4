//! The world around the daemon: two sites, their links, the images and their mirror, the route, and the data.
//!
//! In: time, faults, writes that land. Out: what a look at it says, and what of the data is lost or written twice. Data are
//! numbered writes, one each [`WRITE_EVERY`], at whichever Nexus takes them: a write is known by its time, so that a
//! site's data are the times at which it took writes, and nothing has to happen for each of them.

use understudy_core::{ImageFacts, ImageName, ImagePoint, Reading, Reason};

use super::Ms;
use super::dice::Dice;
use super::fault::Kind;
use super::plot::Setting;

/// Time between two numbered writes of the clients of a site.
pub const WRITE_EVERY: Ms = 100;
/// Flapping goes from up to down, or back, after this time.
pub const FLAP_EVERY: Ms = 4_000;

/// Where the route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To A.
    ToA,
    /// To B.
    ToB,
    /// To a place that is neither.
    Elsewhere,
}

/// Which faults are in force.
#[derive(Debug, Clone)]
pub struct InForce {
    count: Vec<u8>,
    /// Which of them made a difference.
    pub felt: Vec<bool>,
}

impl InForce {
    fn new() -> Self {
        Self { count: vec![0; Kind::ALL.len()], felt: vec![false; Kind::ALL.len()] }
    }

    /// Whether it is in force, without saying that it made a difference.
    #[must_use]
    pub fn on(&self, kind: Kind) -> bool {
        self.count[kind.at()] > 0
    }

    /// Whether it is in force; then it made a difference.
    pub fn hit(&mut self, kind: Kind) -> bool {
        let on = self.on(kind);
        self.felt[kind.at()] |= on;
        on
    }

    /// A moment's fault came about.
    pub fn feel(&mut self, kind: Kind) {
        self.felt[kind.at()] = true;
    }

    pub(super) fn begin(&mut self, kind: Kind) {
        self.count[kind.at()] = self.count[kind.at()].saturating_add(1);
    }

    pub(super) fn end(&mut self, kind: Kind) {
        self.count[kind.at()] = self.count[kind.at()].saturating_sub(1);
    }
}

/// A mirror snapshot of A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The primary's id.
    pub id: u64,
    /// When it was taken, by A's wall clock.
    pub taken_wall_ms: i64,
    /// Every write acknowledged before this time is in it.
    pub upto: Ms,
}

/// An image of the pair, at both sites.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name.
    pub name: ImageName,
    /// Whether it is primary at A.
    pub primary_a: bool,
    /// Whether it is primary at B.
    pub primary_b: bool,
    /// Whole copies at B, the oldest first.
    pub whole: Vec<Snapshot>,
    /// The copy under way, and when it will be whole.
    pub syncing: Option<(Snapshot, Ms)>,
    /// The mark of a promote that did not finish.
    pub orphan: bool,
    /// Whether its promote has left it primary by name only.
    pub half: bool,
    /// What a promote made of it: the writes in it.
    pub content: Option<Ms>,
    /// Whether the undo snapshot is there.
    pub undo: bool,
}

impl Image {
    fn new(name: ImageName) -> Self {
        let first = Snapshot { id: 1, taken_wall_ms: super::WALL, upto: 0 };
        Self {
            name,
            primary_a: true,
            primary_b: false,
            whole: vec![first],
            syncing: None,
            orphan: false,
            half: false,
            content: None,
            undo: false,
        }
    }

    /// What `rbd` at B says of it.
    #[must_use]
    pub fn facts(&self, tells_time: bool) -> ImageFacts {
        let newest = self.whole.last();
        ImageFacts {
            image: self.name.clone(),
            primary: self.primary_b,
            newest_complete: newest.map(|s| s.id),
            syncing: self.syncing.map(|(s, _)| s.id),
            progress: None,
            // Whole seconds, as Ceph tells them.
            source_time_ms: newest.filter(|_| tells_time).map(|s| s.taken_wall_ms.div_euclid(1000) * 1000),
            orphan: self.orphan,
            peer_primary: false,
        }
    }

    /// Whether the copy is the one that was read at the consistency point.
    #[must_use]
    pub fn is_copy_of(&self, points: &[ImagePoint]) -> bool {
        let newest = self.whole.last().map(|s| s.id);
        let point = points.iter().find(|point| point.image == self.name);
        point.is_some_and(|p| (p.newest_complete, p.mid_sync) == (newest, self.syncing.is_some()))
    }

    /// What a forced promote leaves: in the middle of a sync the generation before the newest whole one (CEPH).
    fn promoted_content(&self) -> Ms {
        let back = if self.syncing.is_some() { 2 } else { 1 };
        let at = self.whole.len().saturating_sub(back);
        self.whole.get(at).map_or(0, |s| if self.whole.len() < back { 0 } else { s.upto })
    }

    /// The promote ends well.
    pub fn promote(&mut self) {
        let content = self.promoted_content();
        self.content = Some(content);
        self.primary_b = true;
        self.half = false;
        self.syncing = None;
    }
}

/// The sites and what lies between them.
#[derive(Debug, Clone)]
pub struct World {
    /// Now.
    pub t: Ms,
    /// What goes wrong.
    pub faults: InForce,
    /// The images.
    pub images: Vec<Image>,
    /// Whether the custom resource is at A.
    pub cr_at_a: bool,
    /// Somebody put it back after it was deleted.
    pub cr_put_back: bool,
    /// How far A's wall clock is set apart.
    pub a_clock: i64,
    /// How far it was set forward since it was compared with ours.
    pub a_clock_unmeasured: Option<Ms>,
    /// Whether rbd-mirror runs at B.
    pub mirror_runs: bool,
    /// Whether rbd-mirror at B is refused by its cluster.
    pub mirror_refused: bool,
    /// Whether the schedule of the way back is there.
    pub schedule: bool,
    /// Whether Secrets and volumes are restored at B.
    pub restored: bool,
    /// When Nexus at B will be up; none = not deployed.
    pub nexus_b_up_at: Option<Ms>,
    /// Whether the nonce artifact is at B.
    pub nonce: bool,
    /// The targets of the route.
    pub route: [Leads; 2],
    /// What a resolver has in its cache, and until when.
    pub cached: (Leads, Ms),
    /// When A took writes.
    pub taken_a: Taken,
    /// When B took writes.
    pub taken_b: Taken,
    flap_since: Ms,
    next_snapshot: u64,
}

/// When a site took writes.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The times that are over.
    pub past: Vec<(Ms, Ms)>,
    /// Since when it does.
    pub since: Option<Ms>,
}

impl Taken {
    fn set(&mut self, takes: bool, now: Ms) {
        match (takes, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.past.push((since, now));
                self.since = None;
            }
            _ => {}
        }
    }

    /// The time of the first write at or after `from` and before `to`.
    #[must_use]
    pub fn first_within(&self, from: Ms, to: Ms) -> Option<Ms> {
        let open = self.since.map(|since| (since, Ms::MAX));
        let within = self.past.iter().copied().chain(open).filter_map(|(begin, end)| {
            let first = begin.max(from).div_ceil(WRITE_EVERY) * WRITE_EVERY;
            (first < end.min(to)).then_some(first)
        });
        within.min()
    }
}

impl World {
    /// A world in which all is well and A is the active site.
    #[must_use]
    pub fn new(images: &[ImageName], setting: &Setting) -> Self {
        Self {
            t: 0,
            faults: InForce::new(),
            images: images.iter().cloned().map(Image::new).collect(),
            cr_at_a: true,
            cr_put_back: false,
            a_clock: setting.a_clock,
            a_clock_unmeasured: None,
            mirror_runs: true,
            mirror_refused: false,
            schedule: false,
            restored: false,
            nexus_b_up_at: None,
            nonce: false,
            route: [Leads::ToA, Leads::ToA],
            cached: (Leads::ToA, 0),
            taken_a: Taken { past: vec![], since: Some(0) },
            taken_b: Taken::default(),
            flap_since: 0,
            next_snapshot: 2,
        }
    }

    /// Whether A is off or hangs as a whole.
    #[must_use]
    pub fn a_is_still(&self) -> bool {
        self.faults.on(Kind::SiteDies) || self.faults.on(Kind::SiteFreezes)
    }

    fn nexus_a_runs(&self) -> bool {
        let flapped = self.faults.on(Kind::Flaps) && !((self.t - self.flap_since) / FLAP_EVERY).is_multiple_of(2);
        self.cr_at_a && !self.a_is_still() && !self.faults.on(Kind::NexusDies) && !flapped
    }

    /// Whether Nexus at A acknowledges writes.
    #[must_use]
    pub fn a_takes_writes(&self) -> bool {
        self.nexus_a_runs() && !self.faults.on(Kind::CephDies) && self.images.iter().all(|i| i.primary_a)
    }

    /// Whether Nexus at B is up.
    #[must_use]
    pub fn nexus_b_serves(&self) -> bool {
        let up = self.nexus_b_up_at.is_some_and(|at| at <= self.t);
        up && !self.faults.on(Kind::NexusBDies) && self.images.iter().all(|i| i.primary_b && !i.half)
    }

    /// Brings the account of who takes writes up to date.
    pub fn reckon(&mut self) {
        let (a, b) = (self.a_takes_writes(), self.nexus_b_serves());
        self.taken_a.set(a, self.t);
        self.taken_b.set(b, self.t);
    }

    /// A fault begins.
    pub fn begin(&mut self, kind: Kind) {
        if kind == Kind::Flaps {
            self.flap_since = self.t;
        }
        self.faults.begin(kind);
        self.reckon();
    }

    /// A fault ends.
    pub fn end(&mut self, kind: Kind) {
        self.faults.end(kind);
        self.reckon();
    }

    /// Whether a request of ours reaches A. If not, who tries waits in vain.
    pub fn reaches_a(&mut self) -> bool {
        let f = &mut self.faults;
        let dead = f.hit(Kind::SiteDies) | f.hit(Kind::SiteFreezes);
        !(dead | f.hit(Kind::SiteCut) | f.hit(Kind::CutThere))
    }

    /// Whether an answer of A reaches us.
    pub fn heard_of_a(&mut self) -> bool {
        !(self.faults.hit(Kind::SiteCut) | self.faults.hit(Kind::CutBack))
    }

    /// One look at A, and how long it takes.
    pub fn look(&mut self, domain: understudy_core::Domain, dice: &mut Dice) -> (Reading, Ms) {
        use understudy_core::Domain;
        const IN_VAIN: Ms = 1_000;
        if self.faults.on(Kind::ProbeErrors) && dice.chance(60) {
            self.faults.feel(Kind::ProbeErrors);
            let why = [Reason::Unauthorized, Reason::Forbidden, Reason::Tls, Reason::LocalDns, Reason::Unparsable];
            return (Reading::Unknown(dice.pick(&why)), 5);
        }
        let silent = if domain == Domain::Storage { Reason::StorageSilent } else { Reason::TimedOut };
        if !self.reaches_a() || !self.heard_of_a() {
            return (Reading::Down(silent), IN_VAIN);
        }
        if self.faults.on(Kind::SlowNetwork) && dice.chance(70) {
            self.faults.feel(Kind::SlowNetwork);
            return (Reading::Down(silent), IN_VAIN);
        }
        match domain {
            Domain::Service if !self.nexus_a_runs() => {
                self.faults.hit(Kind::NexusDies);
                self.faults.hit(Kind::Flaps);
                (Reading::Down(Reason::Refused), 1)
            }
            Domain::ControlPlane if self.faults.hit(Kind::ApiDies) => (Reading::Down(Reason::Refused), 1),
            Domain::Storage if self.faults.hit(Kind::CephDies) => (Reading::Down(silent), IN_VAIN),
            _ => (Reading::Up, 1),
        }
    }

    /// A takes a mirror snapshot, if it lives, and B begins to copy it, if it can.
    pub fn snapshot(&mut self, setting: &Setting, a_wall_ms: i64) {
        let lives = !self.a_is_still() && !self.faults.on(Kind::CephDies);
        if !lives {
            return;
        }
        let taken = Snapshot {
            id: self.next_snapshot,
            taken_wall_ms: a_wall_ms,
            upto: self.t.saturating_sub(setting.writeback_ms),
        };
        self.next_snapshot += 1;
        let copies = self.copies();
        let t = self.t;
        for (n, image) in self.images.iter_mut().enumerate() {
            if image.primary_a && !image.primary_b && image.syncing.is_none() && copies {
                // Images of a pair are not copied in step.
                let takes = setting.sync_takes * (1 + n as Ms);
                image.syncing = Some((taken, t + takes));
            }
        }
    }

    /// Whether rbd-mirror at B copies at all.
    #[must_use]
    pub fn copies(&self) -> bool {
        let f = &self.faults;
        let linked = !f.on(Kind::SiteCut) && !f.on(Kind::CutThere) && !f.on(Kind::CutBack);
        self.mirror_runs && !self.mirror_refused && linked && !self.a_is_still() && !f.on(Kind::CephDies)
    }

    /// Copies that have become whole.
    pub fn sync(&mut self) {
        if self.images.iter().all(|i| i.syncing.is_none()) {
            return;
        }
        if self.faults.hit(Kind::SyncStalls) || !self.copies() {
            return;
        }
        let t = self.t;
        for image in &mut self.images {
            if let Some((taken, _)) = image.syncing.filter(|(_, whole_at)| *whole_at <= t) {
                image.whole.push(taken);
                if image.whole.len() > 4 {
                    image.whole.remove(0);
                }
                image.syncing = None;
            }
        }
    }

    /// Whether somebody has an image at B open.
    pub fn is_open(&mut self) -> bool {
        (self.mirror_runs && !self.mirror_refused) || self.faults.hit(Kind::StrangerOpens)
    }
}
