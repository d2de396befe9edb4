//! What an error on the line means.
//!
//! In: an error of a socket, of TLS or of HTTP. Out: a [`Fault`] with its reading. Only what a dead or broken *target* does
//! is Down; what may as well be our own side of the line is Unknown (S4). Used by every look that connects.
//!
//! | error | reading |
//! |---|---|
//! | `ECONNREFUSED` | Down(Refused) |
//! | `ECONNRESET`, `ECONNABORTED`, `EPIPE`, end of stream before the answer is whole, also within the TLS handshake | Down(Reset) |
//! | `ETIMEDOUT` of the kernel, no connection within its time-out | Down(TimedOut) |
//! | `ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `EHOSTDOWN`; `EACCES` and `EPERM`, which are our own packet filter | Unknown(Unreachable) |
//! | `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `EAGAIN`, `EADDRNOTAVAIL` (no port left) | Unknown(LocalFault) |
//! | TLS: certificate, protocol, alert | Unknown(Tls) |
//! | the name can not be resolved, or not in time | Unknown(LocalDns) |
//! | head of the answer too large or with too many headers, body too large | Unknown(TooLarge) |
//! | no HTTP | Unknown(Unparsable) |
//! | anything else | Unknown(Unmapped) |

use std::error::Error;
use std::io::{self, ErrorKind};

use rustix::io::Errno;
use understudy_core::{Reading, Reason};

use crate::sight::Sight;

/// hyper's own words; it has a method for this question only where its server is compiled in.
const HEAD_TOO_LARGE: &str = "message head is too large";

/// An exchange that did not lead to a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How far it got.
    pub(crate) stage: Stage,
    /// What it means.
    pub(crate) reading: Reading,
    /// In words.
    pub(crate) detail: String,
}

/// How far an exchange got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Looking for an address.
    Resolve,
    /// Connecting.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for the head of the answer.
    Head,
    /// Reading the body.
    Body,
}

impl Fault {
    /// A fault that reads as `reading`.
    pub(crate) fn new(stage: Stage, reading: Reading, detail: impl Into<String>) -> Self {
        Self { stage, reading, detail: detail.into() }
    }

    /// Of a socket.
    pub(crate) fn io(stage: Stage, error: &io::Error) -> Self {
        Self::new(stage, of_io(error), error.to_string())
    }

    /// Of a TLS handshake, where an error of the socket may be wrapped or the other way round.
    pub(crate) fn tls(error: &io::Error) -> Self {
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let reading = if is_tls { Reading::Unknown(Reason::Tls) } else { of_io(error) };
        Self::new(Stage::Tls, reading, format!("TLS handshake: {error}"))
    }

    /// Of HTTP.
    pub(crate) fn http(stage: Stage, error: &hyper::Error) -> Self {
        let reading = if error.is_parse() && error.to_string() == HEAD_TOO_LARGE {
            Reading::Unknown(Reason::TooLarge)
        } else if error.is_parse() {
            Reading::Unknown(Reason::Unparsable)
        } else if let Some(io) = io_source(error) {
            of_io_after_tls(io)
        } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            Reading::Down(Reason::Reset)
        } else {
            Reading::Unknown(Reason::Unmapped)
        };
        Self::new(stage, reading, in_words(error))
    }
}

impl From<Fault> for Sight {
    fn from(fault: Fault) -> Sight {
        match fault.reading {
            Reading::Down(reason) => Sight::down(reason, fault.detail),
            Reading::Unknown(reason) => Sight::unknown(reason, fault.detail),
            Reading::Up => Sight::up(),
        }
    }
}

/// What an error of a socket means.
pub(crate) fn of_io(error: &io::Error) -> Reading {
    if let Some(reason) = error.raw_os_error().and_then(of_errno) {
        return reason;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Reading::Down(Reason::Refused),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Reading::Down(Reason::Reset),
        ErrorKind::TimedOut => Reading::Down(Reason::TimedOut),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
            Reading::Unknown(Reason::Unreachable)
        }
        _ => Reading::Unknown(Reason::Unmapped),
    }
}

/// What only the number tells.
fn of_errno(raw: i32) -> Option<Reading> {
    match Errno::from_raw_os_error(raw) {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN | Errno::ADDRNOTAVAIL => {
            Some(Reading::Unknown(Reason::LocalFault))
        }
        Errno::HOSTDOWN | Errno::ACCESS | Errno::PERM => Some(Reading::Unknown(Reason::Unreachable)),
        _ => None,
    }
}

/// After the handshake rustls reports broken records through the stream.
fn of_io_after_tls(error: &io::Error) -> Reading {
    match error.get_ref() {
        Some(inner) if inner.is::<rustls::Error>() => Reading::Unknown(Reason::Tls),
        _ => of_io(error),
    }
}

fn io_source(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref() {
            return Some(io);
        }
        source = cause.source();
    }
    None
}

fn in_words(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_socket_has_its_reading() {
        use Reading::{Down, Unknown};
        let table = [
            (Errno::CONNREFUSED, Down(Reason::Refused)),
            (Errno::CONNRESET, Down(Reason::Reset)),
            (Errno::CONNABORTED, Down(Reason::Reset)),
            (Errno::PIPE, Down(Reason::Reset)),
            (Errno::NOTCONN, Down(Reason::Reset)),
            (Errno::TIMEDOUT, Down(Reason::TimedOut)),
            (Errno::NETUNREACH, Unknown(Reason::Unreachable)),
            (Errno::HOSTUNREACH, Unknown(Reason::Unreachable)),
            (Errno::NETDOWN, Unknown(Reason::Unreachable)),
            (Errno::HOSTDOWN, Unknown(Reason::Unreachable)),
            (Errno::ACCESS, Unknown(Reason::Unreachable)),
            (Errno::PERM, Unknown(Reason::Unreachable)),
            (Errno::MFILE, Unknown(Reason::LocalFault)),
            (Errno::NFILE, Unknown(Reason::LocalFault)),
            (Errno::NOBUFS, Unknown(Reason::LocalFault)),
            (Errno::NOMEM, Unknown(Reason::LocalFault)),
            (Errno::AGAIN, Unknown(Reason::LocalFault)),
            (Errno::ADDRNOTAVAIL, Unknown(Reason::LocalFault)),
            (Errno::AFNOSUPPORT, Unknown(Reason::Unmapped)),
            (Errno::INVAL, Unknown(Reason::Unmapped)),
        ];

        for (errno, reading) in table {
            assert_eq!(of_io(&io::Error::from_raw_os_error(errno.raw_os_error())), reading, "{errno}");
        }
        assert_eq!(of_io(&ErrorKind::UnexpectedEof.into()), Down(Reason::Reset));
    }

    #[test]
    fn a_tls_error_is_told_from_an_error_of_the_socket_under_it() {
        let alert = io::Error::new(ErrorKind::InvalidData, rustls::Error::DecryptError);
        let reset = io::Error::from(ErrorKind::ConnectionReset);

        assert_eq!(Fault::tls(&alert).reading, Reading::Unknown(Reason::Tls));
        assert_eq!(Fault::tls(&reset).reading, Reading::Down(Reason::Reset));
        assert_eq!(of_io_after_tls(&alert), Reading::Unknown(Reason::Tls));
        assert_eq!(of_io_after_tls(&reset), Reading::Down(Reason::Reset));
    }
}
