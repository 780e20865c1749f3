#!/usr/bin/env bash
# What tests need beside Python packages: PostgreSQL's server, for the table of jobs. As root on Debian it is installed;
# elsewhere those tests are skipped, and say so.
set -euo pipefail

compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null && exit 0
command -v initdb > /dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "PostgreSQL's server is not installed; tests that need it are skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql > /dev/null
