package doctor

import "strings"

// This file says what to set, by telemetry.sdk.language: cpp, dotnet, erlang, go, java, nodejs, php, python, ruby, rust,
// swift, webjs. A language without a line of its own gets the one of "", the variables that the specification names.

func pick(by map[string]string, language string) string {
	if s, ok := by[language]; ok {
		return s
	}
	return by[""]
}

func fixServiceName(language string) string {
	return pick(map[string]string{
		"":      "Set `OTEL_SERVICE_NAME` to the service's name, in the environment of its process.",
		"go":    "Set `OTEL_SERVICE_NAME`, and build the resource with `resource.Default()` or `resource.WithFromEnv()`: one made by hand does not read it.",
		"java":  "Set `OTEL_SERVICE_NAME`, or start with `-Dotel.service.name=…`.",
		"webjs": "A browser has no environment: pass `resourceFromAttributes({'service.name': '…'})` to the tracer provider.",
		"swift": "Pass `service.name` in the `Resource` of the tracer provider.",
	}, language)
}

// noDefaultPropagator are the languages whose SDK passes nothing on unless it is told to, and how to tell it.
var noDefaultPropagator = map[string]string{
	"go":   "`otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))`, as Go's default passes nothing on, and wrap clients with `otelhttp.NewTransport`, servers with `otelhttp.NewHandler`, gRPC with the handlers of `otelgrpc`",
	"rust": "`global::set_text_map_propagator(TraceContextPropagator::new())`, as Rust's default passes nothing on",
	"cpp":  "`GlobalTextMapPropagator::SetGlobalPropagator(…HttpTraceContext…)`, as C++'s default passes nothing on",
}

// fixPropagation says what callee and caller need to set so that context gets from one to the other.
func fixPropagation(callee, caller string) string {
	side := func(language string) string {
		if s, ok := noDefaultPropagator[language]; ok {
			return s
		}
		if language == "dotnet" {
			return "`OTEL_PROPAGATORS=tracecontext,baggage` with automatic instrumentation, else `Sdk.SetDefaultTextMapPropagator`"
		}
		return "`OTEL_PROPAGATORS=tracecontext,baggage`"
	}
	fix := "Let both sides speak W3C trace context. The callee: " + side(callee) + ". The caller: " + side(caller) + "."
	if side(callee) == side(caller) {
		fix = "Let both sides speak W3C trace context: " + side(callee) + "."
	}
	return fix + " If that is so already, the caller's client or the callee's server is not instrumented to pass it on, or a proxy between them drops the header `traceparent`."
}

func fixContext(language string) string {
	return "If the service has no timers or workers of its own that call: " + pick(map[string]string{
		"":       "hand the context on to threads and callbacks yourself, and make it current there.",
		"go":     "pass the request's `ctx` on to every call, `http.NewRequestWithContext(ctx, …)`, and never `context.Background()`.",
		"java":   "wrap executors with `Context.taskWrapping(executor)`; with Reactor or coroutines use their context extension.",
		"nodejs": "use the `AsyncLocalStorageContextManager`, and wrap callbacks of pools and queues with `context.bind(context.active(), fn)`.",
		"python": "enable `opentelemetry-instrumentation-threading`, and copy the context into executors with `contextvars.copy_context().run`.",
		"dotnet": "do not suppress the flow of the execution context, and set `Activity.Current` where work is taken from a queue.",
		"ruby":   "run threads inside `OpenTelemetry::Context.with_current(context)`.",
		"php":    "activate the span's scope where work goes on, and detach it afterwards.",
		"rust":   "instrument spawned futures, `.with_context(Context::current())`.",
	}, language)
}

// samplerNote says where the sampler's variables are not read by themselves.
func samplerNote(language string) string {
	return pick(map[string]string{
		"":      "",
		"webjs": " (in a browser: `new ParentBasedSampler({root: new TraceIdRatioBasedSampler(…)})`)",
		"cpp":   " (C++: `ParentBasedSampler` around `TraceIdRatioBasedSampler`, in code)",
		"swift": " (Swift: `Samplers.parentBased(root: Samplers.traceIdRatio(ratio: …))`)",
	}, language)
}

func fixKind(language, kind string) string {
	lower := strings.ToLower(kind)
	title := kind[:1] + lower[1:]
	how := pick(map[string]string{
		"":       "kind " + kind,
		"go":     "`trace.WithSpanKind(trace.SpanKind" + title + ")`",
		"java":   "`spanBuilder(…).setSpanKind(SpanKind." + kind + ")`",
		"nodejs": "`tracer.startSpan(…, {kind: SpanKind." + kind + "})`",
		"webjs":  "`tracer.startSpan(…, {kind: SpanKind." + kind + "})`",
		"python": "`tracer.start_as_current_span(…, kind=SpanKind." + kind + ")`",
		"dotnet": "`source.StartActivity(…, ActivityKind." + title + ")`",
		"php":    "`spanBuilder(…)->setSpanKind(SpanKind::KIND_" + kind + ")`",
		"ruby":   "`tracer.in_span(…, kind: :" + lower + ")`",
		"rust":   "`tracer.span_builder(…).with_kind(SpanKind::" + title + ")`",
		"cpp":    "`options.kind = trace::SpanKind::k" + title + "`",
	}, language)
	what := "what calls another process"
	if kind == "SERVER" {
		what = "what serves a call of another process"
	}
	return "Start the span of " + what + " with " + how + ", or let the library's instrumentation do it."
}

func fixPeerName(language string) string {
	const fix = "Set `server.address`, and `server.port`, on CLIENT spans"
	return pick(map[string]string{
		"":     fix + "; or `service.peer.name`, if the name of the service called is known.",
		"java": fix + "; or map hosts to names with `OTEL_INSTRUMENTATION_COMMON_PEER_SERVICE_MAPPING=host=name`.",
		"go":   fix + ": `otelhttp` does; gRPC needs the handlers of `otelgrpc` in place of its old interceptors.",
	}, language)
}

func fixInstanceID(language string) string {
	const fix = "Set `OTEL_RESOURCE_ATTRIBUTES=service.instance.id=…` to something that no other process has: the pod's name or uid in Kubernetes, else a UUID made at the start"
	return pick(map[string]string{
		"":       fix + ".",
		"nodejs": fix + ", or enable the detector of the SDK, `OTEL_NODE_RESOURCE_DETECTORS=env,host,serviceinstance`.",
		"dotnet": fix + "; `AddService(name)` makes one up by itself.",
		"webjs":  "Pass a UUID made at the start as `service.instance.id` in the resource of the tracer provider.",
		"swift":  "Pass a UUID made at the start as `service.instance.id` in the `Resource` of the tracer provider.",
	}, language)
}

func fixConventions(language string, areas []string) string {
	if len(areas) == 0 {
		return "Update the instrumentation libraries: those of today say `server.address`."
	}
	dup := make([]string, len(areas))
	for i, a := range areas {
		dup[i] = a + "/dup"
	}
	optIn := "`OTEL_SEMCONV_STABILITY_OPT_IN=" + strings.Join(dup, ",") + "` sends old and new names side by side, `" + strings.Join(areas, ",") + "` the new ones alone"
	return pick(map[string]string{
		"":       "Update the instrumentation libraries. Many of them take a step between: " + optIn + ".",
		"java":   optIn + "; the agent from version 2 on has the new HTTP names by itself.",
		"go":     "Update `otelhttp` and the like: today's have the new names by themselves, those in between read " + optIn + ".",
		"dotnet": "Update the `OpenTelemetry.Instrumentation.*` packages: those for HTTP have the new names from 1.6 on.",
		"php":    "Update the `open-telemetry/opentelemetry-auto-*` packages: today's have the new names.",
		"webjs":  "Update the instrumentations, and pass them `semconvStabilityOptIn: '" + strings.Join(dup, ",") + "'`.",
	}, language)
}
