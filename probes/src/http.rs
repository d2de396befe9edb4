//! Looks at any HTTP service by a GET. Domain: `service`, if the file does not say otherwise.
//!
//! | outcome | reading |
//! |---|---|
//! | a code of `expect` (any 2xx if left out), and the text of `contains` is in the first 64 KiB of the body | Up |
//! | such a code, and the text is not in the body | Down(WrongIdentity) |
//! | such a code, and the text is not in the first 64 KiB of a longer body | Unknown(TooLarge) |
//! | 401 | Unknown(Unauthorized) |
//! | 403 | Unknown(Forbidden) |
//! | 5xx | Down(ServerError) |
//! | any other code, redirects among them, which are not followed | Unknown(Unmapped) |
//! | no answer within the time-out | Down(TimedOut) |
//! | no whole answer | as [`crate::fault`] lists |

use std::time::Duration;

use http::StatusCode;
use understudy_config::HttpLook;
use understudy_core::Reason;

use crate::ProbeError;
use crate::http1::{Answer, Call, Keep, Reach, Target};
use crate::shared::Shared;
use crate::sight::Sight;

/// An HTTP service.
pub(crate) struct Http {
    target: Target,
    call: Call,
    expect: Vec<u16>,
    contains: Option<Box<[u8]>>,
}

impl Http {
    pub(crate) fn new(look: &HttpLook, connect_within: Duration, shared: &mut Shared) -> Result<Self, ProbeError> {
        let reach = Reach { url: &look.url, connect_to: look.connect_to, ca: look.ca.as_deref() };
        let target = Target::new(&reach, connect_within, shared)?;
        let keep = if look.contains.is_some() { Keep::Beginning } else { Keep::Nothing };
        Ok(Self {
            call: target.call(keep)?,
            target,
            expect: look.expect.clone(),
            contains: look.contains.as_ref().map(|text| text.as_bytes().into()),
        })
    }

    pub(crate) async fn look(&self) -> Sight {
        match self.target.send(&self.call).await {
            Ok(answer) => self.judge(&answer),
            Err(fault) => fault.into(),
        }
    }

    fn judge(&self, answer: &Answer) -> Sight {
        let code = answer.status;
        let expected = if self.expect.is_empty() { code.is_success() } else { self.expect.contains(&code.as_u16()) };
        if expected {
            return self.judge_body(answer);
        }
        match code {
            StatusCode::UNAUTHORIZED => Sight::unknown(Reason::Unauthorized, "401"),
            StatusCode::FORBIDDEN => Sight::unknown(Reason::Forbidden, "403"),
            _ if code.is_server_error() => Sight::down(Reason::ServerError, code.as_str()),
            _ => Sight::unknown(Reason::Unmapped, format!("{} is not expected", code.as_str())),
        }
    }

    fn judge_body(&self, answer: &Answer) -> Sight {
        let Some(text) = &self.contains else { return Sight::up() };
        if text.is_empty() || answer.body.windows(text.len()).any(|part| part == &**text) {
            Sight::up()
        } else if answer.cut {
            Sight::unknown(Reason::TooLarge, "the text that tells ours is not in the first 64 KiB")
        } else {
            Sight::down(Reason::WrongIdentity, "the text that tells ours is not in the answer")
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_core::Reading::{self, Down, Unknown, Up};

    use super::*;
    use crate::testing::{PATIENCE, Reply, Server, Then, nobody};

    #[tokio::test]
    async fn each_code_has_its_reading() {
        let table = [
            (200, Up),
            (204, Up),
            (301, Unknown(Reason::Unmapped)),
            (307, Unknown(Reason::Unmapped)),
            (400, Unknown(Reason::Unmapped)),
            (401, Unknown(Reason::Unauthorized)),
            (403, Unknown(Reason::Forbidden)),
            (404, Unknown(Reason::Unmapped)),
            (429, Unknown(Reason::Unmapped)),
            (500, Down(Reason::ServerError)),
            (502, Down(Reason::ServerError)),
            (503, Down(Reason::ServerError)),
        ];
        for (code, reading) in table {
            let server = Server::saying(Reply::of(code, &[], "hello")).await;

            assert_eq!(look(&server, &[], None).await, reading, "{code}");
        }
    }

    #[tokio::test]
    async fn only_the_codes_that_are_expected_are_up() {
        let moved = Server::saying(Reply::of(301, &[], "")).await;
        let fine = Server::saying(Reply::of(200, &[], "")).await;

        assert_eq!(look(&moved, &[301, 302], None).await, Up);
        assert_eq!(look(&fine, &[301, 302], None).await, Unknown(Reason::Unmapped));
    }

    #[tokio::test]
    async fn an_answer_without_our_text_is_not_ours() {
        let server = Server::saying(Reply::of(200, &[], "Welcome to nginx!")).await;

        assert_eq!(look(&server, &[], Some("to nginx")).await, Up);
        assert_eq!(look(&server, &[], Some("Nexus")).await, Down(Reason::WrongIdentity));
    }

    #[tokio::test]
    async fn a_text_that_may_come_later_in_a_huge_answer_is_no_proof() {
        let huge = format!("HTTP/1.1 200 OK\r\n\r\nfirst{}", "x".repeat(1024 * 1024));
        let server = Server::saying(Reply::raw(huge, Then::Hang)).await;

        assert_eq!(look(&server, &[], Some("first")).await, Up);
        assert_eq!(look(&server, &[], Some("last")).await, Unknown(Reason::TooLarge));
        assert_eq!(look(&server, &[], None).await, Up, "the code alone is enough where no text is asked for");
    }

    #[tokio::test]
    async fn without_an_answer_the_fault_decides() {
        let garbage = Server::saying(Reply::raw("\r\n\u{0}\u{0}\r\n", Then::Close)).await;
        let silent = Server::saying(Reply::raw("", Then::Reset)).await;
        let url = format!("http://{}/", nobody().await).parse().unwrap();

        assert_eq!(look(&garbage, &[], None).await, Unknown(Reason::Unparsable));
        assert_eq!(look(&silent, &[], None).await, Down(Reason::Reset));
        assert_eq!(http(url, &[], None).look().await.reading, Down(Reason::Refused));
    }

    async fn look(server: &Server, expect: &[u16], contains: Option<&str>) -> Reading {
        http(server.url(("http", "/health")), expect, contains).look().await.reading
    }

    fn http(url: url::Url, expect: &[u16], contains: Option<&str>) -> Http {
        let contains = contains.map(str::to_owned);
        let look = HttpLook { url, connect_to: None, expect: expect.to_vec(), contains, ca: None };
        Http::new(&look, PATIENCE, &mut Shared::new()).unwrap()
    }
}
