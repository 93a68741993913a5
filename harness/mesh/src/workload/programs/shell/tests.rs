//! The shell, as people use it.

use crate::workload::programs::testing::{container, run};
use crate::workload::programs::{Out, Streams, exec};

async fn sh(text: &str) -> (i32, String, String) {
    run(&container(), &["sh", "-c", text]).await
}

async fn out(text: &str) -> String {
    let (code, out, err) = sh(text).await;
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    out
}

#[tokio::test]
async fn words_are_split_quoted_and_expanded() {
    assert_eq!(out("A='x  y'; echo $A \"$A\" '$A' ${B:-d} ${#A}").await, "x y x  y $A d 4\n");
    assert_eq!(out("echo a\\ b \"c $(echo 'd e') f\" $((1+2*3))").await, "a b c d e f 7\n");
    assert_eq!(out("set -- a 'b c'; for x in \"$@\"; do echo [$x]; done; echo $# $2").await, "[a]\n[b c]\n2 b c\n");
    assert_eq!(out("P=/a/b.txt; echo ${P##*/} ${P%.*}").await, "b.txt /a/b\n");
    assert_eq!(out("A=1 env | grep ^A=; echo \"<$A>\"").await, "A=1\n<>\n");
}

#[tokio::test]
async fn commands_are_joined() {
    assert_eq!(out("true && echo a || echo b; false || echo c; ! false && echo d").await, "a\nc\nd\n");
    assert_eq!(out("echo 'b\na\nb' | sort | uniq | head -n 1").await, "a\n");
    assert_eq!(out("for i in $(seq 1 3); do echo $i; done | wc -l").await, "3\n");
    assert_eq!(out("i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done").await, "1\n3\n");
    assert_eq!(out("if test -f /nosuch; then echo a; elif [ -d /tmp ]; then echo b; else echo c; fi").await, "b\n");
    assert_eq!(out("while :; do echo y; done | head -2").await, "y\ny\n");
    assert_eq!(out("(cd /tmp; pwd); pwd; { echo g; } 2>&1").await, "/tmp\n/\ng\n");
}

#[tokio::test]
async fn files_and_streams_are_redirected() {
    assert_eq!(out("echo a > /tmp/x; echo b >> /tmp/x; cat /tmp/x; cat < /tmp/x | wc -l; ls /tmp").await, "a\nb\n2\nx\n");
    assert_eq!(out("cat /nosuch 2>/dev/null || echo none; echo e 2>&1 >/dev/null").await, "none\n");
    assert_eq!(out("cat /nosuch > /tmp/y 2>&1; cat /tmp/y").await, "cat: can't open '/nosuch': No such file or directory\n");
    assert_eq!(sh("echo x > /nosuch/y").await, (1, String::new(), "sh: can't create /nosuch/y: No such file or directory\n".to_owned()));
}

/// As the harness hands a certificate over: by standard input, into a file that has lost its name.
#[tokio::test]
async fn a_file_without_a_name_is_written_and_read_twice() {
    let script = "umask 077; f=$(mktemp /dev/shm/gp.XXXXXX 2>/dev/null || mktemp) && exec 3<>\"$f\" && rm \"$f\" && head -c 6 >&3 && exec \"$@\" </dev/null";
    let (given, kept) = crate::workload::programs::pipe();
    given.write("SECRETmore");
    let ((stdout, read), (stderr, _)) = (Out::kept(), Out::kept());
    let container = container();
    let words = ["sh", "-c", script, "sh", "cat", "/proc/self/fd/3", "/proc/self/fd/3"].map(str::to_owned);
    let streams = Streams { stdin: kept, stdout, stderr };
    // The pipe stays open.
    assert_eq!(exec(&container, &words, &streams).await, Ok(0));
    drop(given);
    assert_eq!(read.lock().unwrap().as_slice(), b"SECRETSECRET");
    assert_eq!(run(&container, &["ls", "/tmp"]).await.1, "");
    assert_eq!(run(&container, &["cat", "/proc/self/fd/3"]).await.0, 1);
    assert_eq!(sh("echo x >&3").await, (1, String::new(), "sh: 3: Bad file descriptor\n".to_owned()));
    assert_eq!(out("exec 3<>/tmp/x; echo a >&3; (exec 3>&-; echo b >&3) 2>/dev/null; cat /tmp/x").await, "a\n");
}

#[tokio::test]
async fn exit_codes_are_those_of_a_shell() {
    assert_eq!(sh("exit 3").await.0, 3);
    assert_eq!(sh("false; echo $?; (exit 4); echo $?").await.1, "1\n4\n");
    assert_eq!(sh("nosuch").await, (127, String::new(), "sh: nosuch: not found\n".to_owned()));
    assert_eq!(sh("set -e; false; echo no").await, (1, String::new(), String::new()));
    assert_eq!(sh("set -e; false || true; if false; then :; fi; echo yes").await.1, "yes\n");
    assert_eq!(sh("trap 'echo bye' EXIT; exit 5").await, (5, "bye\n".to_owned(), String::new()));
    assert_eq!(sh("set -u; echo $NO").await.0, 2);
    assert_eq!(sh("curl -sS http://nosuch.test; echo $?").await.1, "6\n");
}

#[tokio::test]
async fn what_it_does_not_have_is_named() {
    for (text, name) in [
        ("case x in x) echo;; esac", "case"),
        ("f() { echo; }", "function"),
        ("cat <<E\nx\nE", "<<"),
        ("echo `date`", "`"),
        ("diff <(echo) x", "<("),
    ] {
        let (code, _, err) = sh(text).await;
        assert!(code == 2 && err.contains(name) && err.contains("does not have it"), "{text}: {err}");
    }
    for text in ["echo 'x", "if true; then echo", "echo )", "&& x", "for", "$("] {
        let (code, _, err) = sh(text).await;
        assert!(code == 2 && err.contains("syntax error"), "{text}: {err}");
    }
    let (code, _, err) = run(&container(), &["ls", "--color"]).await;
    assert!(code == 2 && err.contains("--color"), "{err}");
}

#[tokio::test]
async fn jobs_run_beside_the_shell() {
    assert_eq!(out("sleep 0.1 & echo first; wait $!; echo second").await, "first\nsecond\n");
    assert_eq!(sh("(sleep 0.1; exit 7) & wait $!; echo $?").await.1, "7\n");
    assert_eq!(out("timeout 0.1 sh -c 'sleep 100' || echo over").await, "over\n");
    assert_eq!(out("sleep 0.05; echo slept").await, "slept\n");
}

#[tokio::test]
async fn a_container_waits_for_its_end_as_people_write_it() {
    let text =
        "cat /etc/ssl/certs/ca-certificates.crt > /tmp/ca.crt 2>/dev/null\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done";
    let container = container();
    let ended = tokio::time::timeout(std::time::Duration::from_millis(50), run(&container, &["/bin/sh", "-c", text])).await;
    assert!(ended.is_err(), "it goes on");
    assert_eq!(run(&container, &["test", "-s", "/tmp/ca.crt"]).await.0, 0);
}

#[tokio::test]
async fn tools_do_what_they_are_for() {
    assert_eq!(out("printf '%s=%03d\\n' a 7 b 12").await, "a=007\nb=012\n");
    assert_eq!(out("echo 'a:b:c' | cut -d: -f2; echo abc | tr a-b A-B; echo hi | base64; echo aGk= | base64 -d").await, "b\nABc\naGkK\nhi");
    assert_eq!(out("echo 'one\ntwo' | grep -c o; echo abc | grep -o 'b\\|c'; hostname; id -u").await, "2\nb\nc\nclient-0\n0\n");
    assert_eq!(out("nslookup localhost | tail -n 1; getent hosts client-0").await, "Address: 127.0.0.1\n10.244.0.5        client-0\n");
    assert_eq!(out("command -v curl; basename /a/b.c .c; dirname /a/b").await, "/usr/bin/curl\nb\n/a\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_the_runtimes_to_report() {
    let (code, _, why) = run(&container(), &["nosuch"]).await;
    assert_eq!(code, -1);
    assert!(why.contains("exec: \"nosuch\": executable file not found in $PATH"), "{why}");
}
