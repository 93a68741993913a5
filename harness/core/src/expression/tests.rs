use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn gateway() -> Value {
    json!({
        "metadata": {"name": "web", "generation": 3},
        "spec": {"port": 8080, "weight": 1.5, "big": u64::MAX, "hosts": ["a.example", "b.example"]},
        "status": {"conditions": [
            {"type": "Accepted", "status": "True", "observedGeneration": 3, "message": "a long story"},
            {"type": "Programmed", "status": "False", "observedGeneration": 3, "message": "another"},
        ]},
    })
}

fn holds(text: &str) -> Result<(), String> {
    CelExpression::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}")).holds(&gateway()).map_err(|miss| miss.to_string())
}

#[test]
fn what_is_true_holds() {
    for text in [
        "object.status.conditions.exists(c, c.type == 'Accepted' && c.status == 'True')",
        "object.status.conditions.all(c, c.observedGeneration == object.metadata.generation)",
        "object.status.conditions.exists_one(c, c.status == 'True')",
        "object.status.conditions.filter(c, c.status == 'True').size() == 1",
        "object.status.conditions.map(c, c.type) == ['Accepted', 'Programmed']",
        "object.spec.hosts.exists(h, object.spec.hosts.exists(g, g != h))",
        "object.spec.port == 8080 && object.spec.port + 1 > 8080 && object.spec.weight < 2",
        "object.spec.big > 1u",
        "!has(object.spec.nosuch) && has(object.spec.port)",
        "'a.example' in object.spec.hosts && 'port' in object.spec",
        "object.?spec.?nosuch.orValue('x') == 'x'",
        "object.spec.hosts[0].split('.').size() == 2 && object.metadata.name.upperAscii() == 'WEB'",
        "object.metadata.name.matches('^w.b$') && size(object.metadata.name) == 3",
        "type(object.spec.port) == int && string(object.spec.port) == '8080'",
        "object.spec.hosts.map(h, {'name': h}).exists(m, m.name.startsWith('b'))",
        "object.spec.port > 80 ? object.metadata.name == 'web' : false",
        "(object.spec.hosts + ['c']).size() == 3",
        "object['spec']['port'] == 8080",
    ] {
        assert_eq!(holds(text), Ok(()), "{text}");
    }
}

#[test]
fn what_is_false_says_what_was_read() {
    for (text, told) in [
        ("object.spec.port == 80", "it is false: object.spec.port is 8080"),
        (
            "object.status.conditions.exists(c, c.type == 'Programmed' && c.status == 'True')",
            r#"it is false: object.status.conditions is [{"status":"True","type":"Accepted"},{"status":"False","type":"Programmed"}]"#,
        ),
        (
            "object.spec.hosts.all(h, h == 'a.example' || object.metadata.name == 'x')",
            r#"it is false: object.spec.hosts is ["a.example","b.example"]; object.metadata.name is "web""#,
        ),
        ("has(object.spec.nosuch)", "it is false: has(object.spec.nosuch) is false"),
        ("object.spec.hosts[0] == 'c'", r#"it is false: object.spec.hosts[0] is "a.example""#),
        (
            "object.spec.nosuch.port == 1 && object.spec.port == 8080",
            "there is no `nosuch` (`has(…)` asks whether there is): object.spec.nosuch.port is not there; object.spec.port is 8080",
        ),
        ("object.metadata.name", r#"it is "web", which is neither true nor false: object.metadata.name is "web""#),
        ("object.spec.hosts[7] == 'a'", "it has no answer, Index out of bounds: Int(7): object.spec.hosts[7] is not there"),
    ] {
        assert_eq!(holds(text), Err(told.to_owned()), "{text}");
    }
    for text in [
        "object.spec.port / 0 == 1",
        "object.spec.port < 'a'",
        "object.spec.hosts.exists(h, h.nosuch)",
        "object.metadata.name.matches('(')",
    ] {
        assert!(holds(text).is_err(), "{text}");
    }
}

#[test]
fn mistakes_are_found_before_anything_is_asked() {
    for (text, at, told) in [
        ("object.a == = 1", 12..13, "not CEL: unexpected token"),
        ("object.a ==", 11..11, "not CEL: it ends where an expression was expected"),
        ("object.a 'b'", 9..10, "not CEL: ''b'' is one too many"),
        ("object.a == 'b", 12..13, "not CEL: unterminated string literal"),
        ("object.a == 1 &\nobject.b", 14..15, "not CEL: unexpected single '&', expected '&&'"),
        ("object.a == 1 &&\nobject.b )", 26..27, "not CEL: ')' is one too many"),
        ("objct.a == 1", 0..5, "there is no `objct` in an expression"),
        ("object.a.exists(c, d == 1)", 19..20, "there is no `d` in an expression"),
        ("object.a.exist(object.b)", 9..14, "there is no function `exist`"),
        ("object.a.exists(object.b)", 9..15, "there is no function `exists`"),
        ("1 == 1", 0..6, "the expression reads nothing"),
        ("", 0..0, "not CEL: it ends where an expression was expected"),
        ("object == Foo{a: 1}", 10..13, "there is no type `Foo`"),
    ] {
        let error = CelExpression::parse(text).expect_err(text);
        assert_eq!((error.message.as_str(), error.at), (told, at), "{text}");
    }
    assert_eq!(CelExpression::parse("object.a.exist(object.b)").unwrap_err().help, "did you mean `exists`?");
    assert_eq!(CelExpression::parse("objct.a").unwrap_err().help, "there is `object`");
    let deep = |n: usize| format!("{}object.a{}", "object.a.exists(x, ".repeat(n), ")".repeat(n));
    assert!(CelExpression::parse(&deep(4)).is_ok());
    for text in [
        deep(5),
        "[".repeat(900),
        format!("object.a{}", ".b".repeat(100)),
        format!("object.a == '{}'", "x".repeat(LONGEST)),
        "!".repeat(1900),
    ] {
        assert!(CelExpression::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn no_expression_goes_on_for_ever() {
    let many: Vec<usize> = (0..2000).collect();
    let subject = json!({"many": many, "text": "x".repeat(1000)});
    let doubled = |what: &str, n: usize| format!("{what}{}.size() == 0", ".map(x, x + x + x + x + x + x + x + x)".repeat(n));
    for text in [
        "object.many.all(a, object.many.all(b, object.many.all(c, object.many.all(d, a + b + c + d >= 0))))".to_owned(),
        "object.many.exists(a, object.many.exists(b, object.many.exists(c, c == -1)))".to_owned(),
        "object.many.map(a, object.many.map(b, object.text)).size() == 1".to_owned(),
        "object.many.filter(a, object.many.filter(b, b > a).size() > 5000).size() == 1".to_owned(),
        "object.many.exists_one(a, object.many.exists_one(b, a == b))".to_owned(),
        doubled("[object.text]", 15),
        format!("[object.text]{}.size() == 0", ".map(x, [x, x, x, x, x, x, x, x])".repeat(15)),
        format!("object.text{} == ''", ".replace('x', 'xxxxxxxx')".repeat(20)),
        "object.many.all(a, object == object)".to_owned(),
    ] {
        let expression = CelExpression::parse(&text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let began = std::time::Instant::now();
        let answer = expression.holds(&subject);
        // Comparing all with itself is little enough to be done; everything else is stopped.
        assert!(
            text.contains("object == object") || answer.as_ref().is_err_and(|m| m.answer.contains("does too much")),
            "{text}: {answer:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(20), "{text}: {:?}", began.elapsed());
    }
    // What is large and simple is answered.
    let large = CelExpression::parse("object.many.filter(a, a > 1990).map(a, a + 1).exists(a, a == 2000)").unwrap();
    assert_eq!(large.holds(&subject), Ok(()));
}

fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "object",
        ".spec",
        ".hosts",
        "[0]",
        ".exists(x, ",
        ".map(x, ",
        "x",
        ")",
        "(",
        " == ",
        " && ",
        " || ",
        "!",
        "'a'",
        "1",
        "1.5",
        "-",
        "+",
        "?",
        ":",
        "[",
        "]",
        "{",
        "}",
        ",",
        "in",
        "has(",
        "size(",
        "null",
        "\"",
        "b'",
        "\\",
        "é",
        "\n",
        "//",
        ".?a",
        "0x",
        "u",
        "e9",
        "`",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", parts in fragment()) {
        for text in [text.as_str(), parts.as_str(), &format!("object.spec{parts}"), &format!("object.spec.hosts.exists(x, {parts})")] {
            match CelExpression::parse(text) {
                Ok(expression) => drop(expression.holds(&gateway())),
                Err(error) => prop_assert!(error.at.end <= text.len() && text.get(error.at.clone()).is_some(), "{text:?} {error:?}"),
            }
        }
    }
}
