// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"os"
)

func makeFIFO(string) error { return errors.ErrUnsupported }

func openRead(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func openWrite(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func openBoth(string) (*os.File, error) { return nil, errors.ErrUnsupported }
