//! The search itself: breadth first, so that the first story found is the shortest.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use understudy_checker::{Counts, Invariant, Violation};

use super::moves::Move;
use super::scope::Scope;
use super::world::World;

/// What a search has found.
#[derive(Debug)]
pub struct Found {
    /// The scope's name.
    pub scope: &'static str,
    /// Distinct states.
    pub states: usize,
    /// Moves that were made, those that lead to a known state included.
    pub transitions: u64,
    /// The depth that was searched in full.
    pub depth: u32,
    /// Whether there was nothing left to make a move from.
    pub exhausted: bool,
    /// Whether the search ended because of its limit.
    pub cut: bool,
    /// How often each invariant was judged.
    pub judged: Counts,
    /// How often each move was made, by its name.
    pub moves: BTreeMap<String, u64>,
    /// The shortest story that breaks an invariant.
    pub broken: Option<(Violation, Vec<Move>)>,
}

/// Looks at every state of `scope` within its depth, or until `limit` states are known.
#[must_use]
pub fn search(scope: &Scope, limit: usize) -> Found {
    let first = World::new(scope);
    let mut known: HashMap<u128, Option<(u128, Move)>> = HashMap::from([(first.digest(), None)]);
    let mut found = Found {
        scope: scope.name,
        states: 1,
        transitions: 0,
        depth: 0,
        exhausted: false,
        cut: false,
        judged: Counts::new(),
        moves: BTreeMap::new(),
        broken: first.violation.clone().map(|violation| (violation, vec![])),
    };
    let mut edge = vec![(first.digest(), first)];
    while found.broken.is_none() && found.depth < scope.depth && known.len() < limit {
        let mut next = Vec::new();
        for (digest, world) in edge {
            for (one, after) in successors(&world, scope) {
                found.transitions += 1;
                *found.moves.entry(name_of(one)).or_default() += 1;
                for (invariant, count) in after.judged() {
                    *found.judged.entry(*invariant).or_default() += count;
                }
                if let Some(violation) = after.violation.clone() {
                    found.broken = Some((violation, story(&known, digest, one)));
                    found.states = known.len();
                    return found;
                }
                let reached = after.digest();
                known.entry(reached).or_insert_with(|| {
                    next.push((reached, after.forgetting()));
                    Some((digest, one))
                });
            }
        }
        edge = next;
        found.depth += 1;
        if edge.is_empty() {
            found.exhausted = true;
            break;
        }
    }
    found.states = known.len();
    found.cut = found.broken.is_none() && !found.exhausted && found.depth < scope.depth;
    found
}

/// Every move from `world`, and each of them with the daemon dying at each of its records.
fn successors(world: &World, scope: &Scope) -> Vec<(Move, World)> {
    let mut all = Vec::new();
    for one in world.moves(scope) {
        let after = world.after(scope, one);
        let records = u8::try_from(after.records.len()).unwrap_or(u8::MAX);
        all.push((one, after.clone()));
        // One more thing goes wrong than the move itself may be.
        if !after.may_die(scope) {
            continue;
        }
        for written in 0..records {
            let dying = Move { dies_after: Some(written), ..one };
            all.push((dying, world.after(scope, dying)));
        }
    }
    all
}

fn story(known: &HashMap<u128, Option<(u128, Move)>>, mut digest: u128, last: Move) -> Vec<Move> {
    let mut moves = vec![last];
    while let Some(Some((before, one))) = known.get(&digest) {
        moves.push(*one);
        digest = *before;
    }
    moves.reverse();
    moves
}

/// The name of a move, without what it happens to.
fn name_of(one: Move) -> String {
    let name = format!("{:?}", one.act).to_lowercase();
    let name = name.split(['(', ' ']).next().unwrap_or_default().to_owned();
    match (one.act, one.dies_after) {
        (_, Some(_)) => "killed between two records".into(),
        (super::moves::Act::Second(air), None) => format!("{air:?}").to_lowercase(),
        (_, None) => name,
    }
}

/// A story in words: each move with what it made the journal say.
#[must_use]
pub fn tell(scope: &Scope, moves: &[Move]) -> String {
    let mut world = World::new(scope);
    let mut text = String::new();
    for one in moves {
        world = world.after(scope, *one);
        let _ = writeln!(text, "{one:?}");
        for (at, record) in &world.records {
            let _ = writeln!(text, "    {} ms {record:?}", at.boot_ms - super::digest::START.boot_ms);
        }
    }
    text
}

/// What was found, as a table.
#[must_use]
pub fn table(found: &[Found]) -> String {
    let mut text = String::from("| scope | depth | states | transitions | |\n|---|---|---|---|---|\n");
    for one in found {
        let end = match &one.broken {
            Some((violation, _)) => format!("BROKEN: {violation}"),
            None if one.exhausted => "nothing left to try".into(),
            None if one.cut => "as far as there was room".into(),
            None => "every state within the depth".into(),
        };
        let _ = writeln!(text, "| {} | {} | {} | {} | {end} |", one.scope, one.depth, one.states, one.transitions);
    }
    text.push_str("\n| invariant | judged |\n|---|---|\n");
    for invariant in Invariant::ALL {
        let judged: u64 = found.iter().filter_map(|one| one.judged.get(&invariant)).sum();
        let _ = writeln!(text, "| {invariant} | {judged} |");
    }
    text
}
