// Package config is what an operator can set: one typed [Config], from defaults, a file, the environment and flags, in
// this order, later ones over earlier ones.
//
// Loading is strict. A key that nobody knows, a value of the wrong form and a combination that could not work are errors
// that name the key, all of them at once. Nothing is opened and no secret is read; see package app for that.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/secrets"
)

// The roles that a process can have.
const (
	Receiver = "receiver" // takes deliveries and queues them; needs no database
	Worker   = "worker"   // folds what is queued into the database
)

// The values that keys of a few words can have.
const (
	BackendRedis    = "redis"    // queue.backend
	BackendEmbedded = "embedded" // queue.backend
	BackendPostgres = "postgres" // store.backend
	BackendSQLite   = "sqlite"   // store.backend

	Hold        = "hold"        // on_directory_deleted
	Deprovision = "deprovision" // on_directory_deleted
)

// Config is everything. The doc tags are the reference's text; see Reference.
type Config struct {
	Environment string            `koanf:"environment" doc:"Name of this installation, such as production or staging. It is part of every queue key and is written into the database; a database or queue of another environment refuses to start."`
	Roles       []string          `koanf:"roles" doc:"What this process does: receiver, worker, or both."`
	Log         Log               `koanf:"log"`
	Public      Public            `koanf:"public"`
	Ops         Ops               `koanf:"ops"`
	Admin       Admin             `koanf:"admin"`
	Secrets     Secrets           `koanf:"secrets"`
	Queue       Queue             `koanf:"queue"`
	Store       Store             `koanf:"store"`
	Worker      WorkerConfig      `koanf:"worker"`
	Application Application       `koanf:"application"`
	Sources     map[string]Source `koanf:"sources" doc:"The senders, by name. Each answers at /webhooks/NAME."`
}

// Log says how the process speaks to standard error.
type Log struct {
	Level  string `koanf:"level" doc:"debug, info, warn or error."`
	Format string `koanf:"format" doc:"json, or console for people."`
}

// Public is the senders' listener.
type Public struct {
	Address        string        `koanf:"address" doc:"host:port that senders reach, directly or through a load balancer."`
	TLS            TLS           `koanf:"tls"`
	PlainHTTP      bool          `koanf:"plain_http" doc:"Serve senders without TLS. Only behind a load balancer that has it."`
	TrustedProxies []string      `koanf:"trusted_proxies" doc:"Networks (CIDR) of load balancers whose X-Forwarded-For is believed for the log. Nobody else's is."`
	BodyLimit      Bytes         `koanf:"body_limit" doc:"Largest body that is taken, such as 1MiB; a larger one is answered 413."`
	InFlight       int           `koanf:"in_flight" doc:"Deliveries at once; more are answered 503."`
	ReadHeader     time.Duration `koanf:"read_header_timeout" doc:"Time for a request's headers."`
	Read           time.Duration `koanf:"read_timeout" doc:"Time for a whole request."`
	Write          time.Duration `koanf:"write_timeout" doc:"Time from a request's headers to the end of its answer."`
	Idle           time.Duration `koanf:"idle_timeout" doc:"Time that a connection may wait between requests; more than the load balancer's own."`
	DrainDelay     time.Duration `koanf:"drain_delay" doc:"After SIGTERM, time between being unready and no longer listening, for load balancers to notice."`
	Shutdown       time.Duration `koanf:"shutdown_timeout" doc:"Time for requests under way to end after that."`
}

// TLS is the public listener's certificate.
type TLS struct {
	Cert       string   `koanf:"cert" doc:"PEM file of the certificate and its intermediates; read again when it changes."`
	Key        string   `koanf:"key" doc:"PEM file of its private key."`
	SelfSigned []string `koanf:"self_signed" doc:"Host names and addresses of a certificate made at start, kept in memory, for local use."`
}

// Ops is the operators' listener.
type Ops struct {
	Address string `koanf:"address" doc:"host:port of /livez, /readyz and /metrics. Empty: none."`
}

// Admin is the administrators' listener.
type Admin struct {
	Address string `koanf:"address" doc:"Loopback host:port for administration; it answers nothing yet. Empty: none."`
}

// Secrets says where secrets come from and for how long they are believed.
type Secrets struct {
	Refresh  time.Duration `koanf:"refresh" doc:"How often secrets are read again, give or take a tenth."`
	Grace    time.Duration `koanf:"grace" doc:"How long a superseded version still verifies."`
	MaxStale time.Duration `koanf:"max_stale" doc:"How long the last good version is used while it cannot be read again; after that the source answers 503."`
	Vault    Vault         `koanf:"vault"`
}

// Vault is how a Vault is reached. It is used when a reference begins with vault:.
type Vault struct {
	Address   string    `koanf:"address" doc:"URL of the Vault, https://host:8200."`
	Namespace string    `koanf:"namespace" doc:"Vault Enterprise namespace."`
	Mount     string    `koanf:"mount" doc:"Mount of the KV version 2 engine that vault:PATH#FIELD refers to."`
	CACert    string    `koanf:"ca_cert" doc:"PEM file of the authority that signed the Vault's certificate."`
	Auth      VaultAuth `koanf:"auth"`
}

// VaultAuth is how the process logs in.
type VaultAuth struct {
	Method       string      `koanf:"method" doc:"approle, token_file or token."`
	Token        secrets.Ref `koanf:"token" doc:"env:NAME or file:/PATH of a token, for development; empty is the environment's VAULT_TOKEN."`
	TokenFile    string      `koanf:"token_file" doc:"File that an agent keeps a token in; read again when it changes."`
	Mount        string      `koanf:"mount" doc:"Mount of the AppRole method."`
	RoleID       string      `koanf:"role_id" doc:"The role id."`
	RoleIDFile   string      `koanf:"role_id_file" doc:"File that holds the role id."`
	SecretIDFile string      `koanf:"secret_id_file" doc:"File that holds the secret id; read at every login."`
}

// Queue is where deliveries wait.
type Queue struct {
	Backend  string        `koanf:"backend" doc:"redis, or embedded: a file, for one process that is receiver and worker."`
	Depth    int64         `koanf:"depth" doc:"Deliveries that may wait in each of the 8 partitions; more are answered 503."`
	Memory   time.Duration `koanf:"memory" doc:"How long ids are remembered; a repeated delivery within it costs the worker nothing."`
	Lease    time.Duration `koanf:"lease" doc:"How long a partition stays with a worker that no longer answers."`
	Redis    Redis         `koanf:"redis"`
	Embedded Embedded      `koanf:"embedded"`
}

// Redis is a Redis 6.2 or newer, or a Valkey: alone, a Cluster, or behind Sentinels.
type Redis struct {
	Addrs      []string  `koanf:"addrs" doc:"host:port; several are the nodes of a Cluster, or Sentinels when master_name is set."`
	MasterName string    `koanf:"master_name" doc:"Name of the master that the Sentinels know."`
	Username   string    `koanf:"username" doc:"ACL user."`
	Password   Sensitive `koanf:"password" doc:"Its password, or a reference to it: vault:PATH#FIELD, file:/PATH, env:NAME."`
	TLS        ClientTLS `koanf:"tls"`
}

// ClientTLS is TLS towards a server.
type ClientTLS struct {
	Enabled    bool   `koanf:"enabled" doc:"Speak TLS."`
	CACert     string `koanf:"ca_cert" doc:"PEM file of the authority; empty is the system's."`
	Cert       string `koanf:"cert" doc:"PEM file of this client's certificate, where the server asks for one."`
	Key        string `koanf:"key" doc:"PEM file of its private key."`
	ServerName string `koanf:"server_name" doc:"Name that the server's certificate must bear; empty is the address's host."`
}

// Embedded is the queue in a file.
type Embedded struct {
	Path string `koanf:"path" doc:"The file."`
}

// Store is the database.
type Store struct {
	Backend  string        `koanf:"backend" doc:"postgres, or sqlite: a file, for one process."`
	DSN      Sensitive     `koanf:"dsn" doc:"PostgreSQL's URL or keywords, or a reference to them: vault:PATH#FIELD, file:/PATH, env:NAME."`
	Path     string        `koanf:"path" doc:"SQLite's file."`
	MaxConns int           `koanf:"max_conns" doc:"Connections to PostgreSQL, at most."`
	Timeout  time.Duration `koanf:"timeout" doc:"Longest time of one statement; less than queue.lease."`
	Migrate  bool          `koanf:"migrate" doc:"Let serve apply pending migrations at start, rather than refuse."`
}

// WorkerConfig is how the worker folds.
type WorkerConfig struct {
	Batch       int           `koanf:"batch" doc:"Events folded in one transaction, at most."`
	MaxEventAge time.Duration `koanf:"max_event_age" doc:"Older events are ignored. More than the provider keeps its own."`
	Ahead       time.Duration `koanf:"ahead" doc:"Events dated further in the future wait for their time."`
}

// Source is a sender.
type Source struct {
	Provider     string      `koanf:"provider" doc:"Whose events they are: workos."`
	Scheme       string      `koanf:"scheme" doc:"How they are signed: workos, standard-webhooks, svix or generic; empty is the provider's own."`
	Verify       VerifyRules `koanf:"verify"`
	Secret       secrets.Ref `koanf:"secret" doc:"Reference to the signing secret: vault:PATH#FIELD, file:/PATH, env:NAME. Never the secret itself. Empty, of a source that is polled: it has no webhooks."`
	API          API         `koanf:"api"`
	Poll         Poll        `koanf:"poll"`
	Reconcile    Reconcile   `koanf:"reconcile"`
	Paths        []string    `koanf:"paths" doc:"Further paths that it answers at."`
	ContentTypes []string    `koanf:"content_types" doc:"Media types of its bodies; empty is JSON."`
	Attributes   []string    `koanf:"attributes" doc:"Further attributes of people to keep: role, roles, custom_attributes.NAME. Others are never stored."`
	OnDeleted    string      `koanf:"on_directory_deleted" doc:"What dsync.deleted means: hold (the default: accounts stay until an operator decides, with an alarm) or deprovision (all of them lose access)."`
	AcceptLoss   bool        `koanf:"accept_loss_until_reconcile" doc:"Accept that a queue which is not fsynced may lose what was answered 200. Without it such a queue refuses to start, unless the source is polled: what is lost is read again."`
}

// API is how a source's provider is asked.
type API struct {
	Key secrets.Ref `koanf:"key" doc:"Reference to the key of the provider's API, such as vault:app/workos#api_key, file:/PATH or env:NAME. Only workers read it. Empty: the provider is not asked."`
	URL string      `koanf:"url" doc:"Where the API is: https, or http of this machine; empty is the provider's own address."`
}

// Reconcile is how a source's directories are compared with their own listings. Without a key of the API none of it counts.
type Reconcile struct {
	Enabled bool          `koanf:"enabled" doc:"Compare each directory with its own listing, and repair what events missed. Unset: true where api.key is set."`
	Every   time.Duration `koanf:"every" doc:"How often; unset: 6h."`
	Guard   Guard         `koanf:"guard"`
}

// Of a source that is to be compared and says no more.
const (
	reconcileEvery = 6 * time.Hour
	guardAccounts  = 50
	guardPercent   = 10
	guardFloor     = 5
)

// VerifyRules changes a preset's freshness.
type VerifyRules struct {
	Tolerance time.Duration `koanf:"tolerance" doc:"Oldest signature that is taken; 0 is the scheme's own."`
	Future    time.Duration `koanf:"future" doc:"How far ahead of our clock a signature may be; 0 is the scheme's own."`
}

// Default returns what holds where nothing is set: all that a process needs, in files of the current folder, but its
// sources and its certificate.
func Default() Config {
	return Config{
		Environment: "development",
		Roles:       []string{Receiver, Worker},
		Log:         Log{Level: "info", Format: "json"},
		Public: Public{
			Address: ":8443", BodyLimit: 1 << 20, InFlight: 512,
			ReadHeader: 5 * time.Second, Read: 15 * time.Second, Write: 30 * time.Second, Idle: 120 * time.Second,
			DrainDelay: 5 * time.Second, Shutdown: 20 * time.Second,
		},
		Ops:   Ops{Address: ":9090"},
		Admin: Admin{Address: "127.0.0.1:9091"},
		Secrets: Secrets{
			Refresh: 30 * time.Second, Grace: 24 * time.Hour, MaxStale: 24 * time.Hour,
			Vault: Vault{Mount: "kv", Auth: VaultAuth{Method: "approle", Mount: "approle"}},
		},
		Queue: Queue{
			Backend: BackendEmbedded, Depth: 50_000, Memory: 24 * time.Hour, Lease: 10 * time.Second,
			Embedded: Embedded{Path: "queue.db"},
		},
		Store:  Store{Backend: BackendSQLite, Path: "rollcall.db", MaxConns: 8, Timeout: 8 * time.Second},
		Worker: WorkerConfig{Batch: 256, MaxEventAge: 95 * 24 * time.Hour, Ahead: 5 * time.Minute},
		Application: Application{
			Mode: Observe, LockTimeout: 2 * time.Second, StatementTimeout: 5 * time.Second, Connections: 4, Batch: 64,
			RetryFirst: time.Second, RetryLongest: 5 * time.Minute, LinkRetry: time.Minute,
			Guard: Guard{Accounts: guardAccounts, Percent: guardPercent, Floor: guardFloor},
		},
	}
}

// Has reports whether the process has the role.
func (c Config) Has(role string) bool { return slices.Contains(c.Roles, role) }

// Digest identifies the configuration in the ledger: 12 hex digits that do not depend on secrets.
func (c Config) Digest() string {
	sum := sha256.Sum256([]byte(c.Redacted()))
	return hex.EncodeToString(sum[:6])
}

// Sensitive is a value that may be a secret itself or a reference to one. It prints as the reference, or with its secret
// parts struck out.
type Sensitive string

// Ref returns the reference that the value is, and false when it is the value itself. What begins as a reference does is
// taken for one, and may turn out to be malformed: secrets.Ref.Validate says so.
func (s Sensitive) Ref() (secrets.Ref, bool) {
	for _, scheme := range []string{"vault:", "file:", "env:"} {
		if strings.HasPrefix(string(s), scheme) {
			return secrets.Ref(s), true
		}
	}
	return "", false
}

// File returns the path of the SQLite file that the value is, as sqlite:PATH, and false when it is none.
func (s Sensitive) File() (string, bool) { return strings.CutPrefix(string(s), "sqlite:") }

// String returns what may be shown: a reference, a file, a URL without its password, or "[redacted]".
func (s Sensitive) String() string {
	if ref, ok := s.Ref(); ok {
		return ref.String()
	}
	if path, ok := s.File(); ok && !strings.Contains(path, "?") {
		return string(s)
	}
	if s == "" {
		return ""
	}
	u, err := url.Parse(string(s))
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") || u.Host == "" || u.Opaque != "" || u.Fragment != "" || strings.Contains(u.Path, "@") || !harmless(u.RawQuery) {
		return redacted
	}
	if _, has := u.User.Password(); !has {
		return string(s)
	}
	u.User = url.User(u.User.Username())
	return u.String()
}

const redacted = "[redacted]"

// harmlessParameters are those of a PostgreSQL URL that hold no secret. A password with a / or a ? in it ends up in the
// path or the query, under no such name.
var harmlessParameters = []string{
	"application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "host", "options", "passfile", "port", "search_path", "service",
	"sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs", "timezone", "user",
	"pool_health_check_period", "pool_max_conn_idle_time", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter", "pool_max_conns", "pool_min_conns",
}

func harmless(query string) bool {
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for name := range values {
		if !slices.Contains(harmlessParameters, name) {
			return false
		}
	}
	return true
}

// Format prints what String returns, whatever the verb.
func (s Sensitive) Format(f fmt.State, verb rune) {
	if !strings.ContainsRune("svq", verb) {
		verb = 's'
	}
	_, _ = io.WriteString(f, fmt.Sprintf(fmt.FormatString(f, verb), s.String()))
}

// MarshalText is String.
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value.
func (s Sensitive) Reveal() string { return string(s) }
