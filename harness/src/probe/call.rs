//! Calls: a command in a pod, or HTTP from here or from a pod, with the log lines that belong to them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use gateproof_core::names::Namespaced;
use gateproof_core::outcome::join::{CallMark, join, proxies_without_a_line};
use gateproof_core::outcome::{CallSeen, HopSeen, MissingHop};
use gateproof_core::scenario::{Caller, ConfigSection, Connection, ExecProbe, HttpProbe, Probe, Scheme, Verify};

use super::logs::Since;
use super::{ProbeError, RUN_CONFIG_MAP, Witnesses, World, curl, entrance, exec as pod_exec, outside, sentinel};

/// After the last line that was asked for, how long others of the same call may still come.
const SETTLE: Duration = Duration::from_millis(120);

pub(super) async fn exec(world: &World, probe: &ExecProbe, witnesses: &Witnesses) -> Result<CallSeen, ProbeError> {
    let target = pod_exec::target(&world.pods, &probe.workload, probe.container.as_deref());
    let (target, ()) = tokio::try_join!(target, follow(world, witnesses))?;
    let since = world.logs.now();
    let token = world.next_token();
    let is_curl = curl::is_curl(&probe.command);
    let command = if is_curl { curl::instrument(&probe.command, &token) } else { probe.command.clone() };
    let finished = pod_exec::run(&world.client, &target, &command, probe.timeout).await?;
    let (stderr, account) = curl::read_account(&finished.stderr);
    let mut seen = CallSeen {
        stdout: Some(finished.stdout),
        stderr: Some(stderr),
        exit_code: Some(finished.exit_code),
        ..fresh(world, repeat_exec(probe, &target.container))
    };
    if let Some(account) = account {
        take_account(&mut seen, account);
        gather(world, &mut seen, &token, Some(&probe.workload), witnesses, &since).await?;
    } else if !(witnesses.path.is_empty() && witnesses.absent.is_empty()) {
        return Err(ProbeError::Missing(format!(
            "the path of `{}` cannot be shown: only a command that begins with curl (7.70 or newer) can be followed",
            probe.command.join(" ")
        )));
    }
    Ok(seen)
}

pub(super) async fn http(world: &World, probe: &HttpProbe, witnesses: &Witnesses) -> Result<CallSeen, ProbeError> {
    follow(world, witnesses).await?;
    let since = world.logs.now();
    let token = world.next_token();
    let mut seen = fresh(world, repeat_command(world, &Probe::Http(probe.clone())));
    let caller = match &probe.from {
        Caller::Outside => {
            let gateway = probe.gateway.as_ref().ok_or_else(|| ProbeError::Missing("a call from outside needs a gateway".to_owned()))?;
            let address = entrance::find(world, gateway, probe.port).await?;
            let identity = identity(world, probe)?;
            let roots = &world.secrets.roots_pem;
            let call = outside::call(&*world.dialler, probe, address, roots, identity, &format!("gateproof {token}")).await;
            seen = CallSeen { command: seen.command, run_token: seen.run_token, known_certificates: seen.known_certificates, ..call };
            None
        }
        Caller::Workload(workload) => {
            let identity = identity(world, probe)?;
            let pem = identity.map(|identity| format!("{}\n{}", identity.certificate_pem, identity.key_pem));
            let target = pod_exec::target(&world.pods, workload, None).await?;
            let mut command = curl::instrument(&curl_of(probe, &in_cluster(world, probe), true), &token);
            if let Some(pem) = &pem {
                command = curl::with_certificate(&command, curl::Pem::Bytes(pem.len()));
            }
            let (input, limit) = (pem.as_deref().map(str::as_bytes), probe.timeout + Duration::from_secs(5));
            let finished = pod_exec::run_with_input(&world.client, &target, &command, input, limit).await?;
            let (stderr, account) = curl::read_account(&finished.stderr);
            let account = account.ok_or_else(|| ProbeError::Broken {
                doing: format!("running curl in {workload}"),
                why: format!("it gave no account of the transfer (curl 7.70 or newer is needed): {stderr}"),
            })?;
            take_account(&mut seen, account);
            take_response(&mut seen, &finished.stdout);
            Some(workload.clone())
        }
    };
    gather(world, &mut seen, &token, caller.as_ref(), witnesses, &since).await?;
    Ok(seen)
}

fn fresh(world: &World, command: String) -> CallSeen {
    CallSeen {
        command,
        run_token: world.secrets.token.clone(),
        known_certificates: world.secrets.fingerprints.clone(),
        ..CallSeen::default()
    }
}

fn identity<'a>(world: &'a World, probe: &HttpProbe) -> Result<Option<&'a outside::Identity>, ProbeError> {
    let Some(name) = &probe.client_certificate else { return Ok(None) };
    let found = world.secrets.identities.get(name);
    let found =
        found.ok_or_else(|| ProbeError::Missing(format!("no certificate was generated for {name}; declare it under `certificates`")))?;
    if found.key_pem.is_empty() {
        return Err(ProbeError::Missing(format!("the secret {name} has no key (tls.key), so its certificate cannot be presented")));
    }
    Ok(Some(found))
}

fn take_account(seen: &mut CallSeen, account: curl::Account) {
    seen.connection = Some(curl::connection(&account));
    seen.connection_detail = account.error.map(|words| format!("curl {}: {}", account.exit_code, words.trim()));
    seen.status = account.status;
    seen.local = account.local;
    seen.remote = account.remote;
    seen.certificate = account.certificate;
}

/// Splits what `curl -i` prints; interim responses come first.
fn take_response(seen: &mut CallSeen, text: &str) {
    let mut rest = text;
    while rest.starts_with("HTTP/") {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
        seen.headers = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        rest = body;
    }
    seen.body = Some(rest.to_owned());
}

async fn follow(world: &World, witnesses: &Witnesses) -> Result<(), ProbeError> {
    let all: Vec<_> = witnesses.path.iter().chain(&witnesses.absent).map(|w| [(w.clone(), None)]).collect();
    for answer in join_all(all.iter().map(|one| world.logs.follow(&world.pods, one))).await {
        match answer {
            Ok(()) => {}
            // A Deployment that is gone leaves no line; that is for the judge to say.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn gather(
    world: &World,
    seen: &mut CallSeen,
    token: &str,
    caller: Option<&Namespaced>,
    witnesses: &Witnesses,
    since: &Since,
) -> Result<(), ProbeError> {
    let mark = CallMark { token: token.to_owned(), caller_local: seen.local, caller_pod_proxy: caller.cloned() };
    let never_left = matches!(seen.connection, Some(Connection::DnsFailure)) || seen.local.is_none();
    let limit = if never_left && witnesses.path.is_empty() { Duration::ZERO } else { world.line_limit };
    let mut wanted = witnesses.path.clone();
    // The caller's own sidecar is the first hop of any call, asked for or not.
    if let Some(caller) = caller.filter(|c| !never_left && has_proxy(world, c)) {
        wanted.push(caller.clone());
    }
    let began = Instant::now();
    let settle = world.pace.pause(SETTLE);
    let mut grown = world.logs.grown();
    let mut complete_since: Option<Instant> = None;
    loop {
        grown.mark_unchanged();
        seen.hops = join(&mark, &world.logs.of_proxies(since));
        let complete = proxies_without_a_line(&wanted, &seen.hops).is_empty();
        complete_since = if complete { complete_since.or_else(|| Some(Instant::now())) } else { None };
        let pause = match complete_since {
            Some(at) if at.elapsed() >= settle => break,
            Some(at) => settle.saturating_sub(at.elapsed()),
            None if began.elapsed() >= limit => break,
            None => limit.saturating_sub(began.elapsed()),
        };
        let _ = tokio::time::timeout(pause, grown.changed()).await;
    }
    for proxy in proxies_without_a_line(&witnesses.path, &seen.hops) {
        let looked_for = match seen.local {
            Some(local) => format!("token {token} or addresses from {local} on, for {:.1} s", began.elapsed().as_secs_f64()),
            None => format!("token {token}; the call had no connection"),
        };
        seen.missing_hops.push(MissingHop { proxy: proxy.clone(), looked_for });
    }
    let shown = join_all(witnesses.absent.iter().map(|proxy| sentinel::past(world, proxy, since))).await;
    // The sentinels' lines are in: whatever the call left in these logs is in too.
    seen.hops = join(&mark, &world.logs.of_proxies(since));
    for (proxy, shown_by) in witnesses.absent.iter().zip(shown) {
        let lines: Vec<HopSeen> = seen.hops.iter().filter(|h| h.proxy == *proxy).cloned().collect();
        seen.absences.push(gateproof_core::outcome::AbsenceSeen { proxy: proxy.clone(), lines, shown_by: shown_by? });
    }
    Ok(())
}

fn has_proxy(world: &World, workload: &Namespaced) -> bool {
    world.logs.follows(workload, "istio-proxy")
}

/// The Service of the gateway, as a pod names it.
fn in_cluster(world: &World, probe: &HttpProbe) -> Option<String> {
    let gateway = probe.gateway.as_ref()?;
    let gateway = world.services.get(gateway).unwrap_or(gateway);
    Some(format!("{}.{}.svc.cluster.local:{}", gateway.name, gateway.namespace, probe.port))
}

/// The call as a curl command. `full` prints the response, else only its status.
fn curl_of(probe: &HttpProbe, connect_to: &Option<String>, full: bool) -> Vec<String> {
    let mut command: Vec<String> = vec!["curl".into(), "-sS".into()];
    let mut add = |parts: &[&str]| command.extend(parts.iter().map(|p| (*p).to_owned()));
    if full {
        add(&["-i"]);
    } else {
        add(&["-o", "/dev/null", "-w", "%{http_code}\\n"]);
    }
    add(&["--max-time", &probe.timeout.as_secs().max(1).to_string()]);
    if probe.verify == Verify::Insecure && probe.scheme == Scheme::Https {
        add(&["-k"]);
    }
    if probe.method != "GET" {
        add(&["-X", &probe.method]);
    }
    if probe.sni.as_ref().is_some_and(|sni| *sni != probe.host) {
        add(&["-H", &format!("Host: {}", probe.host)]);
    }
    for (name, value) in &probe.headers {
        add(&["-H", &format!("{name}: {value}")]);
    }
    if let Some(body) = &probe.body {
        add(&["-d", body]);
    }
    if let Some(to) = connect_to {
        add(&["--connect-to", &format!("::{to}")]);
    }
    let (scheme, default_port) = match probe.scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    };
    let port = if probe.port == default_port { String::new() } else { format!(":{}", probe.port) };
    let host = probe.sni.as_ref().unwrap_or(&probe.host);
    add(&[&format!("{scheme}://{host}{port}{}", probe.path)]);
    command
}

fn repeat_exec(probe: &ExecProbe, container: &str) -> String {
    format!("kubectl -n {} exec deploy/{} -c {container} -- {}", probe.workload.namespace, probe.workload.name, shell(&probe.command))
}

/// The key goes from the secret into the pod through a pipe, as it does in a run.
fn repeat_from_pod(probe: &HttpProbe, workload: &Namespaced, command: &[String]) -> String {
    let exec = |flag: &str, command: &[String]| {
        format!("kubectl -n {} exec{flag} deploy/{} -- {}", workload.namespace, workload.name, shell(command))
    };
    let Some(secret) = &probe.client_certificate else { return exec("", command) };
    let decoded = |part: &str| format!("{{{{index .data \"tls.{part}\" | base64decode}}}}");
    format!(
        "kubectl -n {} get secret {} -o go-template='{}{}' | {}",
        secret.namespace,
        secret.name,
        decoded("crt"),
        decoded("key"),
        exec(" -i", &curl::with_certificate(command, curl::Pem::All))
    )
}

pub(super) fn repeat_command(world: &World, probe: &Probe) -> String {
    match probe {
        Probe::Exec(probe) => {
            let container = probe.container.clone().unwrap_or_else(|| probe.workload.name.clone());
            repeat_exec(probe, &container)
        }
        Probe::Http(probe) => match &probe.from {
            Caller::Workload(workload) => repeat_from_pod(probe, workload, &curl_of(probe, &in_cluster(world, probe), false)),
            Caller::Outside => {
                let to = probe.gateway.as_ref().and_then(|g| world.entrances.get(&(g.clone(), probe.port))).map(ToString::to_string);
                let mut command = shell(&curl_of(probe, &to, false));
                if probe.scheme == Scheme::Https
                    && probe.verify == Verify::RunCas
                    && let Some(ns) = &world.run_config_namespace
                {
                    let cacert = format!("--cacert <(kubectl -n {ns} get cm {RUN_CONFIG_MAP} -o jsonpath='{{.data.ca\\.crt}}')");
                    command = command.replacen("curl -sS", &format!("curl -sS {cacert}"), 1);
                }
                if let Some(name) = &probe.client_certificate {
                    let part = |key: &str| {
                        format!("<(kubectl -n {} get secret {} -o jsonpath='{{.data.tls\\.{key}}}' | base64 -d)", name.namespace, name.name)
                    };
                    command = command.replacen("curl -sS", &format!("curl -sS --cert {} --key {}", part("crt"), part("key")), 1);
                }
                command
            }
        },
        Probe::Logs(probe) => {
            let container = probe.container.as_ref().map_or(String::new(), |c| format!(" -c {c}"));
            format!("kubectl -n {} logs deploy/{}{container} --since=5m", probe.workload.namespace, probe.workload.name)
        }
        Probe::ProxyConfig(probe) => {
            let section = match probe.section {
                ConfigSection::Listeners => "listeners",
                ConfigSection::Routes => "routes",
                ConfigSection::Clusters => "clusters",
                ConfigSection::Endpoints => "endpoints",
                ConfigSection::Secrets => "secrets",
            };
            format!("istioctl proxy-config {section} deploy/{}.{} -o json # {}", probe.workload.name, probe.workload.namespace, probe.name)
        }
        Probe::Analyze { namespaces } => namespaces.iter().map(|ns| format!("istioctl analyze -n {ns}")).collect::<Vec<_>>().join(" && "),
        Probe::Pods { workloads } => {
            let mut namespaces: Vec<&str> = workloads.iter().map(|w| w.namespace.as_str()).collect();
            namespaces.dedup();
            namespaces.iter().map(|ns| format!("kubectl -n {ns} get pods")).collect::<Vec<_>>().join(" && ")
        }
        Probe::Object(key) => super::object::command(key),
        Probe::ProxyStatus => "istioctl proxy-status".to_owned(),
        Probe::Versions => "istioctl version".to_owned(),
    }
}

/// Words as a shell takes them.
fn shell(words: &[String]) -> String {
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@,+".contains(&b));
    let quoted = words.iter().map(|word| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["curl", "-w", "%{http_code}", "it's"].map(str::to_owned);
        assert_eq!(shell(&words), r"curl -w '%{http_code}' 'it'\''s'");
    }

    #[test]
    fn a_certificate_is_presented_from_a_pod_by_its_secrets_name() {
        let probe = HttpProbe {
            from: Caller::Workload(Namespaced::parse("mesh-test/sleep").unwrap()),
            gateway: None,
            scheme: Scheme::Https,
            host: "a.example".parse().unwrap(),
            port: 443,
            path: "/get".to_owned(),
            sni: None,
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            verify: Verify::RunCas,
            client_certificate: Some(Namespaced::parse("istio-system/client").unwrap()),
            timeout: Duration::from_secs(10),
        };
        let workload = Namespaced::parse("mesh-test/sleep").unwrap();
        let text = repeat_from_pod(&probe, &workload, &curl_of(&probe, &None, false));
        assert!(text.starts_with("kubectl -n istio-system get secret client -o go-template='{{index .data \"tls.crt\" | base64decode}}"));
        assert!(text.contains("| kubectl -n mesh-test exec -i deploy/sleep -- sh -c 'umask 077; "), "{text}");
        assert!(text.ends_with(" https://a.example/get") && text.contains(" --cert /proc/self/fd/3 "), "{text}");
        let without = HttpProbe { client_certificate: None, ..probe };
        assert!(
            repeat_from_pod(&without, &workload, &curl_of(&without, &None, false))
                .starts_with("kubectl -n mesh-test exec deploy/sleep -- curl")
        );
    }

    #[test]
    fn a_response_is_split_after_interim_ones() {
        let mut seen = CallSeen::default();
        take_response(&mut seen, "HTTP/1.1 100 Continue\r\n\r\nHTTP/2 200 \r\nContent-Type: a/b\r\n\r\nbody\r\n\r\nmore");
        assert_eq!(seen.headers["content-type"], "a/b");
        assert_eq!(seen.body.as_deref(), Some("body\r\n\r\nmore"));
    }
}
