#!/bin/sh
# Makes the load balancer's own certificate, for local use, unless there is one that is good for another week. To use a real
# one put it as rollcall.pem (certificate, intermediates, key) on the volume.
set -eu
umask 077
cd /var/lib/haproxy

if openssl x509 -noout -checkend 604800 -in rollcall.pem >/dev/null 2>&1; then
  echo "certificate: kept"
  exit
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=rollcall, local" \
  -addext "subjectAltName=DNS:localhost,DNS:haproxy,IP:127.0.0.1" -keyout key.new -out rollcall.crt 2>/dev/null
cat rollcall.crt key.new >rollcall.pem.new
mv rollcall.pem.new rollcall.pem
rm key.new
echo "certificate: made for localhost, haproxy and 127.0.0.1"
