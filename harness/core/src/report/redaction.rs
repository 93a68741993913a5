//! What must never be in a report, taken out.
//!
//! Evidence has been through [`redact`](crate::outcome::redact) already; this is the last gate for every text of a record, so
//! it takes more: a PEM block that is cut off takes the rest of the text with it, and any `Authorization` goes.

use std::sync::LazyLock;

use regex::{Captures, Regex};

pub(super) use crate::outcome::is_suspect;
use crate::outcome::redact;

fn regex(pattern: &str) -> Regex {
    #[allow(clippy::expect_used)]
    Regex::new(pattern).expect("a constant pattern")
}

/// A PEM block, also with its line ends written as `\n`; one that was cut off reaches to the end of the text.
static PEM: LazyLock<Regex> = LazyLock::new(|| regex(r"(?s)-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END [A-Z0-9 ]+-----|\z)"));
/// The same in base64, as Kubernetes secrets and kubeconfigs hold it.
static PEM_BASE64: LazyLock<Regex> = LazyLock::new(|| regex(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*"));
static AUTHORIZATION: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?i)\b(authorization["']?\s*[:=]\s*["']?(?:bearer|basic|token)?)\s*[^\s"',;]+"#));
static BEARER: LazyLock<Regex> = LazyLock::new(|| regex(r"(?i)\b(bearer)\s+([A-Za-z0-9._~+/=-]+)"));
static JWT: LazyLock<Regex> = LazyLock::new(|| regex(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"));

/// Takes keys, certificate bodies and tokens out of a text and says what was there.
pub(super) fn scrub(text: &str) -> String {
    if is_suspect(text) { by_the_rules(text) } else { text.to_owned() }
}

fn by_the_rules(text: &str) -> String {
    let text = PEM.replace_all(text, |found: &Captures<'_>| format!("[removed: PEM {}]", &found[1]));
    let text = PEM_BASE64.replace_all(&text, "[removed: PEM in base64]");
    let text = JWT.replace_all(&text, "[removed: JWT]");
    let text = AUTHORIZATION.replace_all(&text, "$1 [removed: credentials]");
    let text = BEARER.replace_all(&text, |found: &Captures<'_>| {
        let looks_secret = found[2].len() >= 16 || found[2].bytes().any(|b| b.is_ascii_digit());
        if looks_secret { format!("{} [removed: token]", &found[1]) } else { found[0].to_owned() }
    });
    redact(&text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{by_the_rules, scrub};

    #[test]
    fn secrets_leave_a_note_of_what_was_there() {
        for (given, wanted) in [
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb", "a\n[removed: PEM RSA PRIVATE KEY]\nb"),
            (
                r#"{"inline":"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"}"#,
                r#"{"inline":"[removed: PEM CERTIFICATE]\n"}"#,
            ),
            ("-----BEGIN CERTIFICATE-----\nMII cut off", "[removed: PEM CERTIFICATE]"),
            ("client-key-data: LS0tLS1CRUdJTiBSU0E9", "client-key-data: [removed: PEM in base64]"),
            ("curl -H 'Authorization: Bearer abc' http://x", "curl -H 'Authorization: Bearer [removed: credentials]' http://x"),
            ("sent Bearer 0123456789abcdef", "sent Bearer [removed: token]"),
            ("x eyJhbGciOi.eyJzdWIi.c2ln y", "x [removed: JWT] y"),
            ("a bearer token is wanted", "a bearer token is wanted"),
            ("outbound|443||httpbin.org", "outbound|443||httpbin.org"),
        ] {
            assert_eq!(scrub(given), wanted);
        }
    }

    proptest! {
        #[test]
        fn what_is_not_suspected_has_nothing_for_the_rules(text in "(-----BEGIN [A-Z0-9 ]{1,9}-----|-----END |LS0tLS1CRUdJTi|[Bb]earer |[aA]uthorization[\"']?[:=] ?|token |eyJ[a-zA-Z]{3}\\.|[ -~]|\n){0,30}") {
            prop_assert_eq!(scrub(&text), by_the_rules(&text));
        }
    }
}
