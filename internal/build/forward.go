// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec below stands on it
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// frame is a message that is carried through without being read.
type frame struct{ data []byte }

// codec carries frames as they are, and other messages as protobuf.
type codec struct{ proto encoding.CodecV2 }

func newCodec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

// Marshal puts a message on the wire.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.proto.Marshal(v)
}

// Unmarshal takes one off it.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = data.Materialize()
		return nil
	}
	return c.proto.Unmarshal(data, v)
}

// Name is that of protobuf: the wire is the same.
func (codec) Name() string { return "proto" }

// newServer is a gRPC server whose every call goes to handle.
func newServer(handle grpc.StreamHandler) *grpc.Server {
	return grpc.NewServer(
		grpc.ForceServerCodecV2(newCodec()),
		grpc.UnknownServiceHandler(handle),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxCalls),
		grpc.WaitForHandlers(true),
	)
}

// maxCalls bounds the calls on a connection at one time.
const maxCalls = 1024

// maxHeader bounds the metadata of a call.
const maxHeader = 64 << 10

// carryMetadata takes a call's metadata over to the call that carries it on.
func carryMetadata(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	for k := range md {
		if strings.HasPrefix(k, ":") || k == "content-type" || k == "user-agent" || k == "grpc-accept-encoding" {
			delete(md, k)
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// forward carries a call to another connection, message by message, until
// either side ends it.
func forward(in grpc.ServerStream, cc *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithCancel(carryMetadata(in.Context()))
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	out, err := cc.NewStream(ctx, desc, method, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		cancel()
		return err
	}
	defer cancel()
	go func() { // ends with the call: its reads fail once this has returned
		if err := sendAll(in, out); err != nil {
			cancel()
		}
	}()
	return receiveAll(in, out)
}

// sendAll carries the caller's messages.
func sendAll(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f frame
		if err := in.RecvMsg(&f); errors.Is(err, io.EOF) {
			return out.CloseSend()
		} else if err != nil {
			return err
		}
		if err := out.SendMsg(&f); err != nil {
			// The reason is in what is received.
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// receiveAll carries the answers, and the status.
func receiveAll(in grpc.ServerStream, out grpc.ClientStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	delete(header, "content-type")
	if err := in.SendHeader(header); err != nil {
		return err
	}
	for {
		var f frame
		err := out.RecvMsg(&f)
		if err != nil {
			trailer := out.Trailer()
			delete(trailer, "grpc-status-details-bin") // it is in the status
			in.SetTrailer(trailer)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := in.SendMsg(&f); err != nil {
			return err
		}
	}
}

// serveLocal answers a call with a service of this process.
func serveLocal(desc *grpc.ServiceDesc, srv any, method string, in grpc.ServerStream) error {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, m := range desc.Methods {
		if m.MethodName == name {
			resp, err := m.Handler(srv, in.Context(), in.RecvMsg, nil)
			if err != nil {
				return err
			}
			return in.SendMsg(resp)
		}
	}
	for _, st := range desc.Streams {
		if st.StreamName == name {
			return st.Handler(srv, in)
		}
	}
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

// unresolved is how BuildKit begins to say that it cannot find a base image.
const unresolved = "failed to resolve source metadata for "

// fromBuilder puts an error of the builder's into this side's classes. Its
// text is the builder's, without a line for each of its details that are not
// known here.
func fromBuilder(err error) error {
	native := errgrpc.ToNative(err)
	st, ok := status.FromError(err)
	if !ok || errdefs.IsCanceled(native) || errdefs.IsDeadlineExceeded(native) {
		return native
	}
	if _, cause, found := strings.Cut(st.Message(), unresolved); found {
		ref, why, _ := strings.Cut(cause, ": ")
		text := fmt.Sprintf("the base image %s is not here and its registry does not give it: %s: see that its name is right and that this host reaches the registry, or load the image from a file", ref, why)
		if strings.HasSuffix(why, "not found") || strings.Contains(why, "does not exist") {
			return errdefs.ErrNotFound.WithMessage(text)
		}
		return errdefs.ErrUnavailable.WithMessage(text)
	}
	if class, ok := errdefs.Resolve(native).(interface{ WithMessage(string) error }); ok {
		return class.WithMessage(st.Message())
	}
	return native
}
