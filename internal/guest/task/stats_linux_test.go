// SPDX-License-Identifier: Apache-2.0

package task

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLinksThatNoNetworkUsesAreNotCounted(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"eth0/flags": "0x1003\n", "eth0/statistics/rx_bytes": "11\n", "eth0/statistics/tx_packets": "3\n",
		"eth1/flags": "0x1002\n", "eth1/statistics/rx_bytes": "5\n", "lo/flags": "0x9\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := networkStats(dir)
	if len(all) != 1 || all[0].Name != "eth0" || all[0].RxBytes != 11 || all[0].TxPackets != 3 {
		t.Errorf("links %v", all)
	}
}
