# One Vault with its data in files, for local use. The listener is plain: only the receiver and the one-shot that sets it up
# share its network, which has no way out.
storage "file" {
  path = "/vault/file"
}

listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = true
}

api_addr      = "http://vault:8200"
disable_mlock = true # the container has no IPC_LOCK; its memory limit leaves no swap
ui            = false
