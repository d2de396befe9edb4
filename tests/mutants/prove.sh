# shellcheck shell=bash disable=SC2154
# Sourced by tests/run. Each tests/mutants/*.patch takes one guard away; here it is shown that this is noticed.
#
# Above the patch stand its invariant, and who must notice:
#   # S2: observe lets a human force a failover
#   # test: PACKAGE TEST_NAME [CARGO-ARGUMENTS]     this very test must fail, and by that alone the mutant is caught
#   # simulated: S2 [STORIES]                       and so many stories (3000) of the simulation must meet a violation of that
#                                                   invariant; left out where the guard stands in the shell, which is not simulated
# Each verdict is also added to verdicts.tsv in the cache, where `tests/run invariants` takes the last one of each.
# All are tried one after the other in one copy of the tree, so that each compiles only what it changed. They go package by
# package, since a change of the core has everything else built anew.

# Seeds from here on are played, so that a seed that the table names can be played again.
first_seed=1

mutants() { # [PATTERN...]: default all
  local patch order verdict seed invariant began table=$log/table verdicts=$cache/mutants/verdicts.tsv
  export CARGO_TARGET_DIR=$cache/mutants/target CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0
  title "mutants"
  [ $# -gt 0 ] || set -- ''
  mapfile -t order < <(for p in "$@"; do grep -H '^# test: ' tests/mutants/*"$p"*.patch; done 2>/dev/null | sort -u | package_by_package)
  [ ${#order[@]} -gt 0 ] || { note_failure "there is no mutant $*"; return; }
  tree=$cache/mutants/tree; mkdir -p "$tree"; exec 8>"$cache/mutants/lock"; flock 8
  fresh_copy "$tree" 8>&-
  # What cargo fetches for the tree is all that the simulation by itself needs.
  (cd "$tree" && cargo fetch --locked) 8>&- >"$log/fetch" 2>&1 || tail -3 "$log/fetch"
  # What never changes is built before the first mutant, whose time is limited.
  grep -q '^# simulated: ' "${order[@]}" && simulation build 8>&- >"$log/simulation" 2>&1
  for patch in "${order[@]}"; do
    began=$SECONDS seed=- invariant=-
    judge "$patch" 8>&-
    printf '%-50s %-14s %10s  %-40s %4s s\n' "$(basename "$patch" .patch)" "$verdict" "$seed" "$invariant" "$((SECONDS - began))" | tee -a "$table"
    printf '%s\t%s\t%s\t%s\t%s\n' "$(basename "$patch" .patch)" "$verdict" "$(test_of "$patch")" "$seed" "$invariant" >>"$verdicts"
    restore "$patch"
  done
  title "mutants: the table"
  printf '%-50s %-14s %10s  %s\n' "mutant" "by its test" "seed" "violated in simulation"; sort "$table"
}
test_of() { sed -n 's/^# test: [^ ]* \([^ ]*\).*/\1/p' "$1"; }
package_by_package() { # "FILE:# test: PACKAGE ..." -> FILE
  sed -E 's/^([^:]*):# test: understudy-([a-z]+) .*/\2 \1/; s/^core /1 &/; s/^checker /2 &/; s/^actions /3 &/; s/^agent /4 &/' |
    sort | sed 's/.* //'; }
fresh_copy() { # DIR: the tracked files as they are in the work tree; untouched ones keep their time, so are not rebuilt
  local f
  git ls-files | sort >"$log/tracked"
  while IFS= read -r f; do
    [ -f "$f" ] || continue
    cmp -s "$f" "$1/$f" || { mkdir -p "$1/$(dirname "$f")"; cp "$f" "$1/$f"; }
  done <"$log/tracked"
  (cd "$1" && find . -type f | sed 's#^\./##' | sort | comm -23 - "$log/tracked" | xargs -r -d '\n' rm -f)
}
# The work tree may have changed since the copy was made.
restore() { # PATCH
  GIT_CEILING_DIRECTORIES=$cache/mutants git -C "$tree" apply -C1 -R "$root/$1" 2>/dev/null || fresh_copy "$tree"; }
judge() { # PATCH -> verdict, seed, invariant
  local patch=$1 name out=$log/mutant package test where wanted stories
  name=$(basename "$patch" .patch)
  read -r package test where < <(sed -n 's/^# test: //p' "$patch")
  read -r wanted stories < <(sed -n 's/^# simulated: //p' "$patch")
  # The copy is no repository: git must not take one above it for it.
  if ! GIT_CEILING_DIRECTORIES=$cache/mutants git -C "$tree" apply -C1 "$root/$patch" 2>"$out"; then
    verdict="DOES NOT APPLY"; note_failure "mutant $name does not apply: $(head -1 "$out")"; return; fi
  # shellcheck disable=SC2086
  (cd "$tree" && timeout 900 cargo test --locked -p "$package" $where -- --exact "$test") >"$out" 2>&1
  if grep -qaF "test $test ... FAILED" "$out"; then verdict=caught; passed=$((passed + 1))
  elif grep -qaF "test $test ... ok" "$out"; then verdict=SURVIVED; note_failure "mutant $name survived $test"
  else verdict="NO VERDICT"; tail -15 "$out"; note_failure "mutant $name: $test did not run (does it compile? is it the whole name?)"; fi
  [ -z "${wanted:-}" ] || simulate_mutant "$name" "$wanted" "${stories:-3000}"
}
simulation() { # CARGO-ARGUMENTS...
  cp "$tree/Cargo.lock" "$tree/tests/mutants/simulate/Cargo.lock"
  (cd "$tree/tests/mutants/simulate" && timeout 900 cargo "$1" --offline "${@:2}"); }
# Plays stories in the mutant's world. They stop after the first few that are violated.
simulate_mutant() { # NAME INVARIANT STORIES -> seed, invariant
  local name=$1 wanted=$2 stories=$3 out=$log/simulated first
  simulation run -- --whole --seed $first_seed --stories "$stories" >"$out" 2>&1
  first=$(grep -aE "^seed [0-9]+: ([a-z]+ )?$wanted\b" "$out" | head -1)
  if [ -n "$first" ]; then
    read -r _ seed invariant <<<"${first%%: *}: ${first#*: }"; seed=${seed%:}
    invariant=$(sed -E 's/^(checker [^:]*|world [^:]*: [^:]*|panic|[A-Z][0-9]+).*/\1/' <<<"$invariant") passed=$((passed + 1))
  elif grep -qa "stories now" "$out"; then
    invariant="NOT MET"; grep -a '^seed [0-9]*: ' "$out"; note_failure "mutant $name: no violation of $wanted in $stories stories"
  else invariant="NO VERDICT"; tail -15 "$out"; note_failure "mutant $name: the simulation did not run"; fi
}
