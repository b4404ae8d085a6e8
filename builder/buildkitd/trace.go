// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"github.com/moby/buildkit/util/tracing"
	"github.com/moby/buildkit/util/tracing/detect"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/stats"
)

// newTraces makes what records the builds' traces, in memory and for a bounded
// time, until the history of builds takes them. It comes before the controller.
func newTraces() *trace.TracerProvider {
	detect.Recorder = detect.NewTraceRecorder()
	return trace.NewTracerProvider(trace.WithResource(detect.Resource()), trace.WithSyncer(detect.Recorder))
}

// traceCalls starts a span for each call, below the caller's if it names one.
func traceCalls(traces *trace.TracerProvider) stats.Handler {
	return tracing.ServerStatsHandler(
		otelgrpc.WithTracerProvider(traces),
		otelgrpc.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
	)
}
