// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"

	"byre.dev/byre/internal/shimapi"
)

// takeSpare finds none: a named pipe cannot be handed over.
func (c *call) takeSpare(string, shimapi.Settings, *socket) bool { return false }

func (c *call) spawnSpare() error { return errors.ErrUnsupported }

func (c *call) rehearse(context.Context) error { return errors.ErrUnsupported }
