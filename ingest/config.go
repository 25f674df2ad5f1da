package ingest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
)

// ReceiverConfig configures the faultline receiver. The two protocols take the settings that the Collector's otlp
// receiver takes; what differs is the defaults, which bound everything.
type ReceiverConfig struct {
	// Protocols are the servers. Both run unless one has `enabled: false`.
	Protocols Protocols `mapstructure:"protocols"`

	// AuthToken, when set, is asked for with every request, as `Authorization: Bearer <token>`.
	AuthToken configopaque.String `mapstructure:"auth_token"`

	// AllowInsecure permits an address beyond loopback that has neither TLS nor authentication.
	AllowInsecure bool `mapstructure:"allow_insecure"`

	// MaxInFlightMiB bounds the bytes of all requests being worked on, after decompression.
	MaxInFlightMiB int `mapstructure:"max_in_flight_mib"`

	// Forward also passes what was taken to the pipeline that the receiver is part of, unchanged.
	Forward bool `mapstructure:"forward"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// Protocols are the servers of the faultline receiver.
type Protocols struct {
	GRPC configoptional.Optional[configgrpc.ServerConfig] `mapstructure:"grpc"`
	HTTP configoptional.Optional[confighttp.ServerConfig] `mapstructure:"http"`
	// prevent unkeyed literal initialization
	_ struct{}
}

// The limits that hold unless configured otherwise.
const (
	defaultMaxMessageMiB  = 16
	defaultMaxInFlightMiB = 64
	defaultMaxStreams     = 128       // gRPC calls at once over one connection
	defaultReadBuffer     = 256 << 10 // bytes that a gRPC connection's buffer may grow to
	maxHeaderBytes        = 64 << 10
)

// NewDefaultReceiverConfig returns the configuration of a receiver on OTLP's ports of the loopback interface.
func NewDefaultReceiverConfig() component.Config {
	g := configgrpc.NewDefaultServerConfig()
	g.NetAddr.Endpoint = "127.0.0.1:4317"
	g.MaxRecvMsgSizeMiB = defaultMaxMessageMiB
	g.MaxConcurrentStreams = defaultMaxStreams
	g.ReadBufferSize = defaultReadBuffer
	keepalive := configgrpc.NewDefaultKeepaliveServerConfig()
	// SDKs may ping every 10 s to keep a connection alive through a proxy; more than that ends the connection.
	enforcement := keepalive.EnforcementPolicy.Get()
	enforcement.MinTime = 5 * time.Second
	enforcement.PermitWithoutStream = true
	// A peer that is gone is noticed, an idle one let go, and no connection, hence no half-sent message, lasts for ever.
	server := keepalive.ServerParameters.Get()
	server.Time = 30 * time.Second
	server.Timeout = 10 * time.Second
	server.MaxConnectionIdle = 5 * time.Minute
	server.MaxConnectionAge = 15 * time.Minute
	server.MaxConnectionAgeGrace = 30 * time.Second
	g.Keepalive = configoptional.Some(keepalive)

	h := confighttp.NewDefaultServerConfig()
	h.NetAddr.Endpoint = "127.0.0.1:4318"
	h.MaxRequestBodySize = defaultMaxMessageMiB << 20
	h.ReadHeaderTimeout = 5 * time.Second
	h.ReadTimeout = 20 * time.Second
	h.WriteTimeout = 30 * time.Second // counted from the request's header on, so longer than reading may take
	// An idle connection is let go after a minute, as confighttp does.

	return &ReceiverConfig{
		Protocols:      Protocols{GRPC: configoptional.Some(g), HTTP: configoptional.Some(h)},
		MaxInFlightMiB: defaultMaxInFlightMiB,
	}
}

// Unmarshal reads the configuration, and refuses keys that are not known. Those of the HTTP server are looked at here:
// its own Unmarshal, made for structs around it, leaves them to these.
func (c *ReceiverConfig) Unmarshal(conf *confmap.Conf) error {
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	if _, ok := conf.Get("protocols::http").(map[string]any); !ok {
		return nil // absent, or null
	}
	server, err := conf.Sub("protocols::http")
	if err != nil {
		return err
	}
	keys := confmap.New()
	if err := keys.Merge(server); err != nil {
		return err
	}
	keys.Delete("enabled")              // the key of what is optional
	type strict confighttp.ServerConfig // without its Unmarshal
	if err := keys.Unmarshal(&strict{}); err != nil {
		return fmt.Errorf("'protocols.http' decoding failed due to the following error(s):\n\n%w", err)
	}
	return nil
}

// Validate tells what is missing or unsafe.
func (c *ReceiverConfig) Validate() error {
	g, h := c.Protocols.GRPC.Get(), c.Protocols.HTTP.Get()
	if g == nil && h == nil {
		return errors.New("protocols: neither grpc nor http is enabled")
	}
	if c.MaxInFlightMiB < 1 {
		return fmt.Errorf("max_in_flight_mib: %d is not positive", c.MaxInFlightMiB)
	}
	if g != nil {
		if err := checkAddress("grpc", g.NetAddr); err != nil {
			return err
		}
		if g.MaxRecvMsgSizeMiB < 1 || g.MaxRecvMsgSizeMiB > c.MaxInFlightMiB {
			return fmt.Errorf("protocols::grpc::max_recv_msg_size_mib: %d is not between 1 and max_in_flight_mib (%d)",
				g.MaxRecvMsgSizeMiB, c.MaxInFlightMiB)
		}
		if err := c.checkExposure("grpc", g.NetAddr, g.TLS.HasValue(), g.Auth.HasValue()); err != nil {
			return err
		}
		if len(g.Middlewares) > 0 {
			return errors.New("protocols::grpc::middlewares: this server has none; the otlp receiver with the faultline exporter does")
		}
		if g.WriteBufferSize != 0 {
			return errors.New("protocols::grpc::write_buffer_size: this server has none to size: answers are small and leave together")
		}
	}
	if h != nil {
		if err := checkAddress("http", h.NetAddr); err != nil {
			return err
		}
		if h.MaxRequestBodySize < 1 || h.MaxRequestBodySize > int64(c.MaxInFlightMiB)<<20 {
			return fmt.Errorf("protocols::http::max_request_body_size: %d is not between 1 and max_in_flight_mib (%d MiB)",
				h.MaxRequestBodySize, c.MaxInFlightMiB)
		}
		for _, name := range h.CompressionAlgorithms {
			if name != "" && codings[name] == nil {
				return fmt.Errorf("protocols::http::compression_algorithms: %q is not one of gzip, zstd, deflate", name)
			}
		}
		if err := c.checkExposure("http", h.NetAddr, h.TLS.HasValue(), h.Auth.HasValue()); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress refuses what cannot be listened on because of how it is written. Port 0 is any free port.
func checkAddress(protocol string, addr confignet.AddrConfig) error {
	if !overTCP(addr) {
		return nil
	}
	_, port, err := net.SplitHostPort(addr.Endpoint)
	if err != nil {
		return fmt.Errorf("protocols::%s::endpoint: %q is not host:port", protocol, addr.Endpoint)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("protocols::%s::endpoint: %q: port %q is not a number up to 65535", protocol, addr.Endpoint, port)
	}
	return nil
}

// overTCP reports whether an address is one of TCP, and not that of a socket in the file system.
func overTCP(addr confignet.AddrConfig) bool {
	switch addr.Transport {
	case confignet.TransportTypeTCP, confignet.TransportTypeTCP4, confignet.TransportTypeTCP6, "":
		return true
	default:
		return false
	}
}

// checkExposure refuses an address that others can reach if nothing there keeps them out.
func (c *ReceiverConfig) checkExposure(protocol string, addr confignet.AddrConfig, tls, auth bool) error {
	if c.AllowInsecure || tls || auth || c.AuthToken != "" || isLocal(addr) {
		return nil
	}
	return fmt.Errorf("protocols::%s::endpoint: %s can be reached from other machines, with neither TLS nor authentication; "+
		"set tls or auth_token, listen on 127.0.0.1, or say allow_insecure: true", protocol, addr.Endpoint)
}

// isLocal reports whether only processes of this machine can reach an address. A name other than localhost may mean anything.
func isLocal(addr confignet.AddrConfig) bool {
	if !overTCP(addr) {
		return true
	}
	host, _, err := net.SplitHostPort(addr.Endpoint)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// ExporterConfig configures the faultline exporter. It has no settings: what it is given goes into the graph of the
// process it runs in.
type ExporterConfig struct {
	// prevent unkeyed literal initialization
	_ struct{}
}
