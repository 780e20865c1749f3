#!/usr/bin/env bash
# What tests need beside Python packages: PostgreSQL's server, for the table of jobs, and a browser, for the studio's page.
# As root on Debian they are installed; elsewhere the tests that need them are skipped, and say so.
set -euo pipefail

has() { command -v "$1" > /dev/null; }
missing=()
compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null || has initdb || missing+=(postgresql)
has chromium || has chromium-browser || has google-chrome || missing+=(chromium)

[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! has apt-get; then
  echo "not installed: ${missing[*]}; tests that need them are skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
