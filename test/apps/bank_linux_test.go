// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	accounts = 10
	// opening is what each account holds at first.
	opening = 1000
	writers = 3
	// enough transfers must be acknowledged before the machine is killed.
	enough = 60
)

// makeBank makes the accounts and a table that tells of every transfer.
func (d database) makeBank(ctx context.Context, id string) error {
	sql := d.create + d.use +
		"CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL);" +
		"CREATE TABLE transfer (writer INT, n INT, source INT NOT NULL, target INT NOT NULL, amount INT NOT NULL, PRIMARY KEY (writer, n));"
	for i := range accounts {
		sql += fmt.Sprintf("INSERT INTO account VALUES (%d, %d);", i, opening)
	}
	_, err := d.query(ctx, id, sql)
	return err
}

// killDuringTransfers has clients make transfers without end, kills the
// machine under them, and returns how many each saw acknowledged.
func (d database) killDuringTransfers(t *testing.T, id string) (acked [writers]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var total atomic.Int64
	var ended [writers]error
	early := make(chan struct{}, writers)
	var clients sync.WaitGroup
	for w := range writers {
		clients.Go(func() {
			acked[w], ended[w] = d.transfer(ctx, id, w, &total)
			early <- struct{}{}
		})
	}
	for total.Load() < enough && len(early) == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	alive := len(early) == 0
	if err := killMachine(id); err != nil {
		t.Error(err)
		cancel()
	}
	clients.Wait()
	if !alive {
		t.Fatalf("a client ended before the machine was killed: %v", errors.Join(ended[:]...))
	}
	if code := must(t)(byre(t.Context(), "wait", id)); code != "137" {
		t.Errorf("exit code %s of a container whose machine was killed", code)
	}
	return acked
}

// transfer moves money, one transaction after the other, until its session
// ends; it returns the number of the last one that was acknowledged.
func (d database) transfer(ctx context.Context, id string, writer int, total *atomic.Int64) (acked int, err error) {
	cmd := command(ctx, append([]string{"exec", "-i", id}, d.client...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	acked, err = d.converse(in, out, writer, total)
	return acked, errors.Join(err, in.Close(), cmd.Wait(), errors.New(stderr.String()))
}

// converse sends a transaction and waits for its acknowledgement, which is
// its number, again and again.
func (d database) converse(in io.Writer, out io.Reader, writer int, total *atomic.Int64) (acked int, err error) {
	lines := bufio.NewScanner(out)
	send := d.use + "\n"
	for n := 1; ; n++ {
		if n%10 == 0 {
			send += d.flush
		}
		if _, err := io.WriteString(in, send+transaction(writer, n)); err != nil {
			return acked, err
		}
		if !lines.Scan() {
			return acked, errors.Join(lines.Err(), io.ErrUnexpectedEOF)
		}
		if lines.Text() != strconv.Itoa(n) {
			return acked, fmt.Errorf("transfer %d is answered %q", n, lines.Text())
		}
		acked, send = n, ""
		total.Add(1)
	}
}

// transaction is a transfer between two accounts. They are locked in order, so
// that two writers cannot wait for each other.
func transaction(writer, n int) string {
	pair := rand.Perm(accounts)[:2]
	amount := 1 + rand.IntN(50)
	change := []string{
		fmt.Sprintf("UPDATE account SET balance = balance - %d WHERE id = %d;", amount, pair[0]),
		fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d;", amount, pair[1]),
	}
	if pair[0] > pair[1] {
		slices.Reverse(change)
	}
	return fmt.Sprintf("BEGIN; %s INSERT INTO transfer VALUES (%d, %d, %d, %d, %d); COMMIT; SELECT %d;\n",
		strings.Join(change, " "), writer, n, pair[0], pair[1], amount, n)
}

// checkBank checks that no acknowledged transfer is missing, that none is
// there which was never asked for, and that each is there whole.
func (d database) checkBank(ctx context.Context, id string, acked [writers]int) error {
	rows, err := d.query(ctx, id, d.use+
		"SELECT SUM(balance) FROM account;"+
		"SELECT COUNT(*) FROM account a WHERE balance <> "+strconv.Itoa(opening)+
		" - (SELECT COALESCE(SUM(amount), 0) FROM transfer WHERE source = a.id)"+
		" + (SELECT COALESCE(SUM(amount), 0) FROM transfer WHERE target = a.id);"+
		"SELECT writer, n FROM transfer ORDER BY writer, n;")
	if err != nil {
		return err
	}
	if len(rows) < 2 {
		return fmt.Errorf("no sums: %v", rows)
	}
	var errs []error
	if sum := rows[0][0]; sum != strconv.Itoa(accounts*opening) {
		errs = append(errs, fmt.Errorf("the accounts hold %s in all, not %d", sum, accounts*opening))
	}
	if wrong := rows[1][0]; wrong != "0" {
		errs = append(errs, fmt.Errorf("%s accounts do not hold what the transfers say", wrong))
	}
	var last [writers]int
	for _, row := range rows[2:] {
		var w, n int
		if _, err := fmt.Sscan(strings.Join(row, " "), &w, &n); err != nil || w < 0 || w >= writers {
			return fmt.Errorf("no transfer: %q", row)
		}
		if n != last[w]+1 {
			errs = append(errs, fmt.Errorf("writer %d: transfer %d comes after %d", w, n, last[w]))
		}
		last[w] = n
	}
	for w, n := range last {
		// One more may have been committed and its acknowledgement lost.
		if n < acked[w] || n > acked[w]+1 {
			errs = append(errs, fmt.Errorf("writer %d: %d transfers are there, %d were acknowledged", w, n, acked[w]))
		}
	}
	return errors.Join(errs...)
}
