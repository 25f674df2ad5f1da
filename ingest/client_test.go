package ingest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// reply is an HTTP answer.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

// post sends a body to the receiver's HTTP server, as protobuf unless header says otherwise, on a connection of its own.
func post(tb testing.TB, r *otlpReceiver, body []byte, header http.Header) reply {
	tb.Helper()
	return send(tb, http.MethodPost, tracesURL(r), bytes.NewReader(body), header)
}

// send makes an HTTP request. Content-Type is protobuf's unless header has one; an empty one is none.
func send(tb testing.TB, method, url string, body io.Reader, header http.Header) reply {
	tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", typeProtobuf)
	maps.Copy(req.Header, header)
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, ExpectContinueTimeout: 10 * time.Second}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		tb.Errorf("%s %s: %v", method, url, err)
		return reply{}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Errorf("%s %s: %v", method, url, err)
	}
	return reply{res.StatusCode, res.Header, b}
}

// bytesCodec sends and receives *[]byte as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// export makes one Export call with a message of the given bytes and returns the answer's.
func export(conn *grpc.ClientConn, body []byte, options ...grpc.CallOption) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return exportCtx(ctx, conn, body, options...)
}

func exportCtx(ctx context.Context, conn *grpc.ClientConn, body []byte, options ...grpc.CallOption) ([]byte, error) {
	var answer []byte
	err := conn.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", &body, &answer,
		append(options, grpc.ForceCodecV2(bytesCodec{}))...)
	return answer, err
}

// wantStatus checks a call's error, and whether it says when to come again.
func wantStatus(tb testing.TB, err error, code codes.Code, retry bool) {
	tb.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		tb.Errorf("got %v, want %v", err, code)
	}
	var retryInfo *errdetails.RetryInfo
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			retryInfo = info
		}
	}
	if retry != (retryInfo != nil) {
		tb.Errorf("%v: RetryInfo %v", err, retryInfo)
	}
	if retryInfo != nil && retryInfo.GetRetryDelay().AsDuration() <= 0 {
		tb.Errorf("%v: come again after %v", err, retryInfo.GetRetryDelay().AsDuration())
	}
}

// certificate writes a certificate for 127.0.0.1 and its key to files, and returns a pool that trusts it.
func certificate(tb testing.TB) (certFile, keyFile string, roots *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	certFile, keyFile = filepath.Join(tb.TempDir(), "cert.pem"), filepath.Join(tb.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return certFile, keyFile, roots
}
