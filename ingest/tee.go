package ingest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"
)

// A tee passes batches that were taken on to the Collector pipeline, unchanged, for standard exporters to forward.
//
// A batch counts first and is forwarded then, and what becomes of it there is not the sender's business: it was
// acknowledged, and a sender that came again would be counted twice. Exporters have queues and retries of their own
// for a destination that is down; a batch that not even they take is lost to the pipeline alone, which the Collector's
// otelcol_receiver_failed_spans and otelcol_receiver_refused_spans count and the log says.
type tee struct {
	next   consumer.Traces
	obs    *receiverhelper.ObsReport
	log    *zap.Logger
	logged atomic.Int64 // when a failure was last logged, Unix seconds
}

func newTee(set receiver.Settings, next consumer.Traces) (*tee, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "otlp", ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, fmt.Errorf("set up forwarding: %w", err)
	}
	return &tee{next: next, obs: obs, log: set.Logger}, nil
}

// costPerByte bounds what a batch may grow to when it becomes a tree of pdata, as a multiple of its size.
const costPerByte = 8

// forward decodes body into pdata and passes it on. It does not keep body.
func (t *tee) forward(ctx context.Context, body []byte) {
	op := t.obs.StartTracesOp(ctx)
	spans, err := t.pass(op, body)
	t.obs.EndTracesOp(op, "otlp", spans, err)
	if err != nil && t.mayLog(time.Now().Unix()) {
		t.log.Warn("A batch that was counted could not be forwarded to the pipeline; said once a minute", zap.Error(err))
	}
}

func (t *tee) pass(ctx context.Context, body []byte) (spans int, err error) {
	// pdata recurses as deep as a batch says and allocates as much as it says, so it is asked first.
	cost, err := treeCost(body)
	if err != nil {
		return 0, err
	}
	if cost > max(costPerByte*len(body), 64<<10) {
		return 0, errTooMany
	}
	var unmarshaler ptrace.ProtoUnmarshaler
	traces, err := unmarshaler.UnmarshalTraces(body)
	if err != nil {
		return 0, fmt.Errorf("decode for the pipeline: %w", err)
	}
	spans = traces.SpanCount()
	if spans == 0 {
		return 0, nil
	}
	return spans, t.next.ConsumeTraces(ctx, traces)
}

// mayLog reports whether a minute went by since a failure was logged last.
func (t *tee) mayLog(now int64) bool {
	last := t.logged.Load()
	return now-last >= 60 && t.logged.CompareAndSwap(last, now)
}
