package web

import (
	"encoding/json"
	"net/url"
	"testing"
)

// Every figure of a node says how many spans it rests on, who saw it, and whether it is scaled up.
func TestNodesSayHowTheirFiguresWereObtained(t *testing.T) {
	s := newServer(t, shopStore(t))
	for id, by := range map[string]string{"shop/payment": "node", "db:postgresql/orders@db1": "callers"} {
		_, body := ask(t, s, "/api/v1/services/"+url.PathEscape(id)+"?env=prod")
		var node ServiceDetail
		if err := json.Unmarshal([]byte(body), &node); err != nil {
			t.Fatal(err)
		}
		calls := int64(0)
		for _, e := range node.Inbound {
			calls += e.N
		}
		if node.P95By == nil || *node.P95By != by || node.N != calls || calls == 0 || node.Estimated {
			t.Errorf("%s: p95 by %v, n=%d of %d, estimated %v", id, node.P95By, node.N, calls, node.Estimated)
		}
	}
}
