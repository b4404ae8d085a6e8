// SPDX-License-Identifier: Apache-2.0

package interrupt

import "os"

// terminating signals end a process.
var terminating = []os.Signal{os.Interrupt}
