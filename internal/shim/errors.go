// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// statusCodes is how classes of errors travel to containerd, in order of
// precedence.
var statusCodes = []struct {
	is   func(error) bool
	code codes.Code
}{
	{errdefs.IsNotFound, codes.NotFound},
	{errdefs.IsAlreadyExists, codes.AlreadyExists},
	{errdefs.IsInvalidArgument, codes.InvalidArgument},
	{errdefs.IsFailedPrecondition, codes.FailedPrecondition},
	{errdefs.IsNotImplemented, codes.Unimplemented},
	{errdefs.IsResourceExhausted, codes.ResourceExhausted},
	{errdefs.IsUnavailable, codes.Unavailable},
	{errdefs.IsPermissionDenied, codes.PermissionDenied},
	{func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, codes.DeadlineExceeded},
	{func(err error) bool { return errors.Is(err, context.Canceled) }, codes.Canceled},
}

// toStatus gives an error the form in which ttrpc carries it, class and text.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range statusCodes {
		if c.is(err) {
			return status.Error(c.code, err.Error())
		}
	}
	return errgrpc.ToGRPC(err)
}
