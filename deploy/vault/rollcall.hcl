# What Rollcall may read, as printed by: rollcall vault policy --config deploy/rollcall.yml
path "kv/data/rollcall/sources/workos" { capabilities = ["read"] }
path "kv/metadata/rollcall/sources/workos" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
