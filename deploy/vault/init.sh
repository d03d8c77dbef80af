#!/bin/sh
# Makes the Vault ready for Rollcall: initialised, unsealed, with the webhook secret, and an AppRole that may read just
# that. Run it as often as you like: what is there stays as it is, what is missing is made.
#
# For local use only. It keeps the one unseal key and the root token on a volume, beside the data that they protect, so
# that whoever has the volumes has the secrets. A Vault that matters has its keys elsewhere: several holders, or auto-unseal
# by a KMS; and it has no root token once it is set up.
set -eu
umask 077

keys=/vault/file          # the private volume: what `vault operator init` printed
approle=/vault/logs       # the receiver's volume: role_id, secret_id
policy=/etc/vault/rollcall.hcl
webhook=/run/secrets/webhook_secret
secret=rollcall/sources/workos

say() { printf 'vault-init: %s\n' "$1"; }
fail() { printf 'vault-init: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

initialise() {
  if vault operator init -status >/dev/null; then
    [ -s $keys/init ] || fail "Vault was initialised by someone else: there are no keys on the volume" \
      "remove the volume vault-data, or unseal Vault and set it up by hand"
    return
  fi
  vault operator init -key-shares=1 -key-threshold=1 >$keys/init.new
  mv $keys/init.new $keys/init
  say "initialised"
}

# known NAME prints a line's value of what init printed.
known() { sed -n "s/^$1: //p" $keys/init; }

unseal() {
  vault status >/dev/null && return
  known 'Unseal Key 1' | vault write -format=json sys/unseal key=- >/dev/null
  say "unsealed"
}

# active waits until the Vault takes requests; for a moment after unsealing it does not yet.
active() {
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    vault token lookup >/dev/null 2>&1 && return
    sleep 1
  done
  vault token lookup >/dev/null || fail "Vault does not become active, or knows its root token no more" "docker compose logs vault"
}

engine() {
  if vault secrets list -format=json | grep -q '"kv/"'; then return; fi
  vault secrets enable -path=kv -version=2 kv >/dev/null
  say "KV version 2 at kv/"
}

# signing_secret writes the secret if there is none yet. Nothing overwrites one that was rotated since.
signing_secret() {
  for _ in 1 2 3 4 5; do # a new engine needs a moment
    vault kv metadata get -mount=kv $secret >/dev/null 2>&1 && return
    if vault kv put -mount=kv -cas=0 $secret signing_secret=@$webhook >/dev/null; then
      say "signing secret at kv/$secret"
      return
    fi
    sleep 1
  done
  fail "the signing secret could not be written" "Vault's words are above"
}

role() {
  if ! vault auth list -format=json | grep -q '"approle/"'; then
    vault auth enable approle >/dev/null
    say "AppRole at approle/"
  fi
  vault policy write rollcall $policy >/dev/null
  vault write auth/approle/role/rollcall token_policies=rollcall token_ttl=1h token_max_ttl=24h token_no_default_policy=true >/dev/null
  vault read -field=role_id auth/approle/role/rollcall/role-id | publish role_id
  if valid_secret_id; then return; fi
  vault write -force -field=secret_id auth/approle/role/rollcall/secret-id | publish secret_id
  say "new secret id of AppRole rollcall"
}

valid_secret_id() {
  [ -s $approle/secret_id ] &&
    vault write -format=json auth/approle/role/rollcall/secret-id/lookup secret_id=@$approle/secret_id | grep -q secret_id_accessor
}

# publish NAME puts standard input where the receiver, another user, reads it; whole or not at all.
publish() {
  cat >$approle/"$1".new
  [ -s $approle/"$1".new ] || fail "Vault gave no $1" "Vault's words are above"
  chmod 0644 $approle/"$1".new
  mv $approle/"$1".new $approle/"$1"
}

initialise
unseal
VAULT_TOKEN=$(known 'Initial Root Token')
export VAULT_TOKEN
active
engine
signing_secret
role
say "ready"
