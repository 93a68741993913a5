# shellcheck shell=bash
# What the scripts in bench/ share: where things are, time, YAML, and telling what went wrong.
#
# Sourced, not called. It changes to the root of the checkout, makes the scratch folder $work, and sets
# $gateproof and $bundle. A script that sources it removes $work at its exit.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
# A release build, or one of another checkout, can be measured instead.
gateproof=${GATEPROOF_BIN:-target/debug/gateproof}
bundle=${GATEPROOF_BUNDLE:-${KINDLAB:-}}
[ -z "$bundle" ] || export PATH="$bundle/bin:$PATH"
unset GATEPROOF_KEEP GATEPROOF_VERIFY_ONLY GATEPROOF_INTERNET GATEPROOF_SCENARIOS
work=$(mktemp -d)

# die TEXT: the input or the surroundings are wrong.
die() { echo "${0##*/}: $*" >&2; exit 2; }

# need COMMAND…
need() {
  local command
  for command; do command -v "$command" >/dev/null || die "$command is missing"; done
}

need_gateproof() { [ -x "$gateproof" ] || die "$gateproof is missing: cargo build, or name one in GATEPROOF_BIN"; }

# A run of gateproof removes what killed runs left, by its state folder. With one of our own it knows of no
# cluster but those made here.
own_state() { export XDG_STATE_HOME="$work/state"; mkdir -p "$XDG_STATE_HOME"; }

# Names no cluster that is there: what is found under the name in the end is ours.
need_no_cluster() {
  ! kind get clusters 2>/dev/null | grep -qx -- "$1" || die "there is a kind cluster $1 already; it is not touched, name another one"
}

# stop_running: what runs in the background as $running cleans up on a signal; it gets the time to.
running=
stop_running() {
  [ -n "$running" ] || return 0
  kill -TERM "$running" 2>/dev/null || true
  wait "$running" 2>/dev/null || true
}

# Seconds since a moment that $EPOCHREALTIME gave.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# median NUMBER…
median() {
  printf '%s\n' "$@" | sort -n | awk '{ n[NR] = $1 } END { print NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2 }'
}

# json FILE: a YAML file with a map at its top, as JSON. Helm is needed anyhow, and it reads YAML.
json() {
  local chart=$work/chart
  if [ ! -e "$chart" ]; then
    mkdir -p "$chart/templates"
    printf 'apiVersion: v2\nname: json\nversion: 0.0.1\n' >"$chart/Chart.yaml"
    printf '{{ toJson .Values }}\n' >"$chart/templates/values.yaml"
  fi
  helm template json "$chart" --values "$1" | grep '^{'
}

# The scenarios whose times were measured from the beginning, as filters: the catalogue around them grows.
# shellcheck disable=SC2034  # read by the scripts that source this
four=(00-sample-apps:: 10-ingress:: 20-egress:: 20-egress/dual-gateway::)
