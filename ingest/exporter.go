package ingest

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// spanExporter puts batches of a Collector pipeline into the graph. They become OTLP bytes again, so that there is one
// decoder and one model of a span whichever way it came. That costs what pdata costs; the receiver avoids it.
type spanExporter struct {
	intake *Intake
}

func (e *spanExporter) start(_ context.Context, host component.Host) error {
	var err error
	e.intake, err = intakeOf(host, "exporter")
	return err
}

// consume returns a permanent error for what can never be taken. Spans rejected singly are counted by the Intake and are no
// error: the batch must not come again.
func (e *spanExporter) consume(_ context.Context, traces ptrace.Traces) error {
	var marshaler ptrace.ProtoMarshaler
	body, err := marshaler.MarshalTraces(traces)
	if err != nil {
		return consumererror.NewPermanent(fmt.Errorf("encode batch: %w", err))
	}
	if _, err := e.intake.Consume(time.Now(), body); err != nil {
		return consumererror.NewPermanent(err)
	}
	return nil
}
