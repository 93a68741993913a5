//! Keeping keys, tokens and certificate bodies out of what is written down.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Each rule, here and in reports, finds nothing where none of these words stands: most texts have none, and one look costs a tenth of
/// ten. Where the rules ignore case, so does this.
static SUSPECT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("-----(?i:begin)|LS0tLS1CRUdJTi|(?i:inline|authorization|bearer)|eyJ").expect("redaction expressions are constants")
});

/// Whether a text may hold something that is to be taken out.
pub(crate) fn is_suspect(text: &str) -> bool {
    SUSPECT.is_match(text)
}

/// What is looked for, and what stands there afterwards; in this order, and so that a second pass changes nothing.
static RULES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        // JSON inside a JSON string first: its quotes are escaped.
        (r#"(?i)(\\+"inline_?(?:bytes|string)\\+"\s*:\s*\\+")(?:[^"\\]|\\+[^"\\])*"#, "${1}[redacted]"),
        (r#"(?i)("inline_?(?:bytes|string)"\s*:\s*")(?:[^"\\]|\\.)*"#, "${1}[redacted]"),
        (r#"(?im)^(\s*(?:- )?inline_?(?:bytes|string)\s*:\s*)[^\s"'\[][^\n]*"#, "${1}[redacted]"),
        (r"-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END [A-Z0-9 ]+-----", "[redacted PEM: ${1}]"),
        // Cut off before its end, as a body of limited size may be.
        (r"-----BEGIN ([A-Z0-9 ]+)-----[A-Za-z0-9+/=\s\\:,-]*", "[redacted PEM: ${1}]"),
        // With its blanks and ends of lines as a URL has them, as in `X-Forwarded-Client-Cert`.
        (r"(?i)-----BEGIN(?:%20|\+)([A-Z0-9]+(?:(?:%20|\+)[A-Z0-9]+)*)-----[A-Za-z0-9%+/=_-]*", "[redacted PEM: ${1}]"),
        // `-----BEGIN` in base64, as in a Secret's data.
        (r"LS0tLS1CRUdJTi[A-Za-z0-9+/_=-]*", "[redacted PEM in base64]"),
        (r#"(?i)((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?\s*(?:bearer|basic)\s+)[^\s"',\\\[]+"#, "${1}[redacted]"),
        (r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{16,}", "${1}[redacted]"),
        (r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}", "[redacted token]"),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).expect("redaction expressions are constants"), with))
    .collect()
});

/// The text without PEM blocks (also cut off, also in base64), `Authorization` values, bearer tokens, JSON web tokens and
/// `inline_bytes`/`inline_string` data sources. Every inline data source goes, since text alone does not show whether
/// it holds a secret; what stays says what kind of thing was there.
#[must_use]
pub fn redact(text: &str) -> String {
    if is_suspect(text) { by_the_rules(text) } else { text.to_owned() }
}

fn by_the_rules(text: &str) -> String {
    let mut now = Cow::Borrowed(text);
    for (pattern, with) in RULES.iter() {
        if let Cow::Owned(changed) = pattern.replace_all(&now, *with) {
            now = Cow::Owned(changed);
        }
    }
    now.into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Put together here, so that no file of the repository looks like it holds a key.
    fn pem(kind: &str) -> String {
        format!("-----{} {kind}-----\nMIIBszCCAVmgAwIBAgIUQw\n+/abc==\n-----END {kind}-----", "BEGIN")
    }

    #[test]
    fn pem_blocks_go_and_the_rest_stays() {
        for kind in ["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY"] {
            let seen = redact(&format!("before\n{}\nafter", pem(kind)));
            assert_eq!(seen, format!("before\n[redacted PEM: {kind}]\nafter"));
        }
        let escaped = serde_json::to_string(&pem("CERTIFICATE")).unwrap();
        assert_eq!(redact(&escaped), "\"[redacted PEM: CERTIFICATE]\"");
    }

    #[test]
    fn a_cut_off_block_goes_too() {
        let whole = pem("PRIVATE KEY");
        let seen = redact(&whole[..whole.len() - 30]);
        assert_eq!(seen, "[redacted PEM: PRIVATE KEY]");
    }

    #[test]
    fn a_block_in_a_url_or_a_header_goes_too() {
        let encoded =
            pem("CERTIFICATE").replace(' ', "%20").replace('\n', "%0A").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let header = format!("By=spiffe://a/b;Cert=\"{encoded}%0A\";URI=spiffe://c/d");
        assert_eq!(redact(&header), "By=spiffe://a/b;Cert=\"[redacted PEM: CERTIFICATE]\";URI=spiffe://c/d");
        let cut = encoded.get(..60).unwrap();
        assert_eq!(redact(cut), "[redacted PEM: CERTIFICATE]");
        let json = serde_json::json!({"headers": header}).to_string();
        assert!(!redact(&json).contains("MIIBsz") && serde_json::from_str::<serde_json::Value>(&redact(&json)).is_ok());
    }

    #[test]
    fn tokens_go() {
        let jwt = format!("eyJ{}.{}.{}", "hbGciOiJSUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2ln-bmF0_dXJl");
        assert_eq!(redact(&format!("token {jwt} end")), "token [redacted token] end");
        assert_eq!(redact("Authorization: Bearer abc.def"), "Authorization: Bearer [redacted]");
        assert_eq!(redact("curl -H 'authorization: basic dXNlcjpw' http://x/"), "curl -H 'authorization: basic [redacted]' http://x/");
        assert_eq!(redact(r#"{"Authorization": "Bearer abc", "Host": "x"}"#), r#"{"Authorization": "Bearer [redacted]", "Host": "x"}"#);
        assert_eq!(redact("the bearer of news"), "the bearer of news");
    }

    #[test]
    fn inline_data_sources_go() {
        let text =
            r#"{"tls_certificate":{"private_key":{"inline_bytes":"W3JlZA=="},"certificate_chain":{"inlineString": "a\"b\nc"}},"name":"x"}"#;
        let seen: serde_json::Value = serde_json::from_str(&redact(text)).unwrap();
        assert_eq!(seen["tls_certificate"]["private_key"]["inline_bytes"], "[redacted]");
        assert_eq!(seen["tls_certificate"]["certificate_chain"]["inlineString"], "[redacted]");
        assert_eq!(seen["name"], "x");

        let nested = serde_json::json!({"log": text, "after": 1}).to_string();
        let seen = redact(&nested);
        assert!(!seen.contains("W3JlZA"), "{seen}");
        assert!(serde_json::from_str::<serde_json::Value>(&seen).is_ok(), "{seen}");

        assert_eq!(redact("  inline_bytes: W3JlZA==\n  name: x"), "  inline_bytes: [redacted]\n  name: x");
    }

    #[test]
    fn a_secrets_data_goes() {
        assert_eq!(redact("tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0t=\nx"), "tls.key: [redacted PEM in base64]\nx");
    }

    #[test]
    fn ordinary_evidence_stays() {
        for text in [include_str!("testdata/access.log"), "curl -sS -A gp-eyJ https://httpbin.org/get", "{\"name\": \"http.8080\"}"] {
            assert_eq!(redact(text), text);
        }
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "(-----BEGIN [A-Z ]{1,9}-----|-----END [A-Z ]{1,9}-----|Bearer |authorization: basic |inline_bytes: |\"inline_string\":\"|eyJ|[ -~]|\n){0,30}") {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once);
        }

        #[test]
        fn what_is_not_suspected_has_nothing_for_the_rules(text in "(-----BEGIN [A-Z ]{1,9}-----|-----begin%20KEY-----|LS0tLS1CRUdJTi|[Bb]earer |(proxy-)?[aA]uthorization[:=] ?basic |inline_?bytes: |\\\\?\"inlineString\\\\?\":\\\\?\"|eyJ|[ -~]|\n){0,30}") {
            prop_assert_eq!(redact(&text), by_the_rules(&text));
        }
    }
}
