//! Reads the command lines of `rbd` and `ceph`.
//!
//! In: the words after the program's name, and `CEPH_ARGS`. Out: options and positional words, in the
//! few forms that both programs take. Start at [`Line::parse`].

use std::collections::BTreeMap;
use std::time::Duration;

/// Options that stand alone.
const FLAGS: [&str; 10] =
    ["all", "verbose", "force", "recursive", "no-progress", "pretty-format", "version", "status", "help", "debug"];
/// Options that take a value. What is in neither list is not recognised, as the real programs do it.
const VALUES: [&str; 24] = [
    "conf",
    "id",
    "name",
    "user",
    "keyring",
    "keyfile",
    "format",
    "pool",
    "image",
    "namespace",
    "snap",
    "path",
    "mon-host",
    "cluster",
    "client-mount-timeout",
    "rados-mon-op-timeout",
    "rados-osd-op-timeout",
    "connect-timeout",
    "log-to-stderr",
    "err-to-stderr",
    "size",
    "log-file",
    "dest",
    "setuser",
];

/// A command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    options: BTreeMap<String, String>,
}

/// An option that the program does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unrecognised(pub(super) String);

impl Line {
    /// Takes `args` apart; what `ceph_args` sets comes first and is overridden.
    pub(super) fn parse(tool: &str, args: &[String], ceph_args: &str) -> Result<Self, Unrecognised> {
        let mut line = Self::default();
        let environment = ceph_args.split_whitespace().map(str::to_owned);
        let mut rest = environment.chain(args.iter().cloned());
        while let Some(word) = rest.next() {
            let Some((name, value)) = option(&word) else {
                line.words.push(word);
                continue;
            };
            let known = VALUES.contains(&name.as_str());
            // rbd has no --connect-timeout: it ends with exit 1, which looks like something else.
            if tool == "rbd" && name == "connect-timeout" {
                return Err(Unrecognised(word));
            }
            match value {
                Some(value) if known => line.options.insert(name, value),
                None if known => line.options.insert(name, rest.next().unwrap_or_default()),
                _ if FLAGS.contains(&name.as_str()) => line.options.insert(name, "true".to_owned()),
                _ => return Err(Unrecognised(word)),
            };
        }
        Ok(line)
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds: f64 = self.option(name)?.trim_end_matches('s').parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Whether librbd's own log lines go to standard error, as they do unless told otherwise.
    pub(super) fn logs(&self) -> bool {
        self.option("log-to-stderr") != Some("false") && self.option("err-to-stderr") != Some("false")
    }

    pub(super) fn json(&self) -> bool {
        matches!(self.option("format"), Some("json" | "json-pretty"))
    }

    /// The identity without its `client.`.
    pub(super) fn user(&self) -> &str {
        let full = self.option("name").and_then(|name| name.strip_prefix("client."));
        self.option("id").or(self.option("user")).or(full).unwrap_or("admin")
    }

    /// `IMAGE`, `POOL/IMAGE` or `POOL/IMAGE@SNAP` at a place among the words, or by options.
    pub(super) fn image(&self, place: usize) -> (String, String, Option<String>) {
        let spec = self.words.get(place).map_or("", String::as_str);
        let (spec, snap) = match spec.split_once('@') {
            Some((image, snap)) => (image, Some(snap.to_owned())),
            None => (spec, self.option("snap").map(str::to_owned)),
        };
        let default = self.option("pool").unwrap_or("rbd");
        match spec.rsplit_once('/') {
            Some((pool, image)) => (pool.to_owned(), image.to_owned(), snap),
            None if spec.is_empty() => (default.to_owned(), self.option("image").unwrap_or_default().to_owned(), snap),
            None => (default.to_owned(), spec.to_owned(), snap),
        }
    }
}

/// The name and the attached value of an option, in its long form with dashes.
fn option(word: &str) -> Option<(String, Option<String>)> {
    let short = [
        ("-c", "conf"),
        ("-n", "name"),
        ("-p", "pool"),
        ("-m", "mon-host"),
        ("-a", "all"),
        ("-s", "status"),
        ("-f", "format"),
        ("-v", "version"),
        ("-k", "keyring"),
    ];
    if let Some((_, long)) = short.iter().find(|(short, _)| *short == word) {
        return Some(((*long).to_owned(), None));
    }
    let long = word.strip_prefix("--")?;
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    Some((name.replace('_', "-"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_every_form_and_the_command_line_wins_over_the_environment() {
        let words = "-c x.conf --id=agent --rados_osd_op_timeout 5 mirror image status p/i --format json";
        let args: Vec<String> = words.split(' ').map(str::to_owned).collect();

        let line = Line::parse("rbd", &args, "--rados-osd-op-timeout=9 --client-mount-timeout=3").unwrap();

        assert_eq!(line.words, ["mirror", "image", "status", "p/i"]);
        assert_eq!((line.option("conf"), line.user()), (Some("x.conf"), "agent"));
        assert_eq!(line.seconds("rados-osd-op-timeout"), Some(Duration::from_secs(5)));
        assert_eq!(line.seconds("client-mount-timeout"), Some(Duration::from_secs(3)));
        assert_eq!(line.image(3), ("p".to_owned(), "i".to_owned(), None));
    }

    #[test]
    fn rbd_does_not_know_the_connect_timeout_that_ceph_has() {
        let args = ["--connect-timeout".to_owned(), "5".to_owned(), "ls".to_owned()];

        let unknown = Unrecognised("--connect-timeout".to_owned());
        assert_eq!(Line::parse("rbd", &args, ""), Err(unknown));
        assert!(Line::parse("ceph", &args, "").is_ok());
    }
}
