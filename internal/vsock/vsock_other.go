// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !windows

package vsock

import (
	"context"
	"errors"
	"net"
)

func supported() error { return errors.ErrUnsupported }

func dial(context.Context, ID, uint32) (net.Conn, error) { return nil, errors.ErrUnsupported }

func listen(ID, uint32) (net.Listener, error) { return nil, errors.ErrUnsupported }
