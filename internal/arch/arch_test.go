// SPDX-License-Identifier: Apache-2.0

package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"byre.dev/byre/internal/arch"
)

const module = "byre.dev/byre/"

// pure are the packages of the first floor and what they must not import.
var impure = []string{"os", "net", "syscall", "log", "log/slog", "os/exec", "golang.org/x/sys"}

// pureExceptions are imports that the first floor may have for a reason.
var pureExceptions = map[string][]string{
	"mux":     {"net"}, // net.Conn and net.Listener are what it offers
	"shimapi": {"net"}, // the engine dials the shim
}

// file is one parsed Go file.
type file struct {
	dir     string // below the root, slash-separated
	name    string
	imports []string
	ast     *ast.File
}

// parsed is the tree of the repository, which the tests share.
var parsed = sync.OnceValues(parse)

func parseTree(t *testing.T) []file {
	t.Helper()
	files, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func parse() (files []file, err error) {
	root := filepath.Join("..", "..")
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || rel == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out := file{dir: filepath.ToSlash(filepath.Dir(rel)), name: d.Name(), ast: f}
		for _, imp := range f.Imports {
			s, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			out.imports = append(out.imports, s)
		}
		files = append(files, out)
		return nil
	})
	return files, err
}

// table reads "name: words" lines in order.
func table(text string) (names []string, words map[string][]string) {
	words = map[string][]string{}
	for line := range strings.SplitSeq(text, "\n") {
		name, rest, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		names = append(names, name)
		words[name] = strings.Fields(rest)
	}
	return names, words
}

// line returns the table's line that a package belongs to: itself or the
// nearest parent that is listed.
func line(words map[string][]string, pkg string) string {
	for p := pkg; p != "."; p = path.Dir(p) {
		if _, ok := words[p]; ok {
			return p
		}
	}
	return ""
}

func TestImportsFollowTheFloors(t *testing.T) {
	names, allowed := table(arch.Floors)
	for i, name := range names {
		for _, dep := range allowed[name] {
			if at := slices.Index(names, dep); at < 0 || at > i {
				t.Errorf("table: %s may import %s, which is not on a line above it", name, dep)
			}
		}
	}
	for _, f := range parseTree(t) {
		pkg, ok := strings.CutPrefix(f.dir, "internal/")
		if !ok {
			continue
		}
		own := line(allowed, pkg)
		if own == "" {
			t.Errorf("%s/%s: package is in no floor of internal/arch", f.dir, f.name)
			continue
		}
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, imp := range f.imports {
			dep, ok := strings.CutPrefix(imp, module+"internal/")
			if !ok {
				continue
			}
			depLine := line(allowed, dep)
			if depLine != own && !slices.Contains(allowed[own], depLine) {
				t.Errorf("%s/%s imports %s: internal/arch does not allow it", f.dir, f.name, dep)
			}
		}
	}
}

// unused returns the words of a table that no import of a line bears out.
func unused(words map[string][]string, used map[string]map[string]bool) []string {
	var left []string
	for name, ws := range words {
		for _, w := range ws {
			if !used[name][w] {
				left = append(left, name+": "+w)
			}
		}
	}
	slices.Sort(left)
	return left
}

// mark notes that a line of a table was borne out.
func mark(used map[string]map[string]bool, name, word string) {
	if used[name] == nil {
		used[name] = map[string]bool{}
	}
	used[name][word] = true
}

func TestTheFloorsListNothingThatIsNotThere(t *testing.T) {
	names, allowed := table(arch.Floors)
	there, used := map[string]bool{}, map[string]map[string]bool{}
	for _, f := range parseTree(t) {
		pkg, ok := strings.CutPrefix(f.dir, "internal/")
		if !ok {
			continue
		}
		own := line(allowed, pkg)
		there[own] = true
		for _, imp := range f.imports {
			if dep, ok := strings.CutPrefix(imp, module+"internal/"); ok && !strings.HasSuffix(f.name, "_test.go") {
				mark(used, own, line(allowed, dep))
			}
		}
	}
	for _, name := range names {
		if !there[name] {
			t.Errorf("internal/arch lists the package %s, which is not there", name)
		}
	}
	for _, u := range unused(allowed, used) {
		t.Errorf("internal/arch allows an import that nobody makes: %s", u)
	}
}

func TestTheDoorsListNothingThatIsNotUsed(t *testing.T) {
	trees, doors := table(arch.Doors)
	used := map[string]map[string]bool{}
	for _, f := range parseTree(t) {
		pkg, ok := strings.CutPrefix(f.dir, "internal/")
		if !ok || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, imp := range f.imports {
			for _, tree := range trees {
				if imp != tree && !strings.HasPrefix(imp, tree+"/") {
					continue
				}
				for _, d := range doors[tree] {
					if pkg == d || strings.HasPrefix(pkg, d+"/") {
						mark(used, tree, d)
					}
				}
			}
		}
	}
	for _, u := range unused(doors, used) {
		t.Errorf("internal/arch lists a door that nobody uses: %s", u)
	}
}

func TestSkipsGoThroughTestenv(t *testing.T) {
	for _, f := range parseTree(t) {
		if f.dir == "internal/testenv" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "testenv" {
				t.Errorf("%s/%s skips by itself: testenv.Skip tells whether it may", f.dir, f.name)
			}
			return true
		})
	}
}

func TestTheFirstFloorIsPure(t *testing.T) {
	first, _, _ := strings.Cut(strings.TrimPrefix(arch.Floors, "\n"), "\n\n")
	_, pure := table(first)
	for _, f := range parseTree(t) {
		pkg, ok := strings.CutPrefix(f.dir, "internal/")
		if !ok || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		own := line(pure, pkg)
		if own == "" || own != pkg {
			continue
		}
		for _, imp := range f.imports {
			if slices.Contains(impure, imp) && !slices.Contains(pureExceptions[own], imp) {
				t.Errorf("%s/%s imports %s: the first floor is bytes in, bytes out", f.dir, f.name, imp)
			}
		}
	}
}

func TestThirdPartyTreesHaveOneDoor(t *testing.T) {
	trees, doors := table(arch.Doors)
	for _, f := range parseTree(t) {
		pkg, ok := strings.CutPrefix(f.dir, "internal/")
		if !ok || strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, imp := range f.imports {
			for _, tree := range trees {
				if imp != tree && !strings.HasPrefix(imp, tree+"/") {
					continue
				}
				if !slices.ContainsFunc(doors[tree], func(d string) bool { return pkg == d || strings.HasPrefix(pkg, d+"/") }) {
					t.Errorf("%s/%s imports %s: its doors are %v", f.dir, f.name, imp, doors[tree])
				}
			}
		}
	}
}

func TestDriversAreNamedInCmdAlone(t *testing.T) {
	for _, f := range parseTree(t) {
		if strings.HasPrefix(f.dir, "cmd/") || strings.HasPrefix(f.dir, "internal/vm/") || strings.HasSuffix(f.name, "_test.go") || strings.HasPrefix(f.dir, "bench") {
			continue
		}
		for _, imp := range f.imports {
			if imp == module+"internal/vm/qemu" || imp == module+"internal/vm/hcs" {
				t.Errorf("%s/%s imports the driver %s: only cmd names drivers", f.dir, f.name, imp)
			}
		}
	}
}

func TestEveryPackageAndExportedNameHasAComment(t *testing.T) {
	commented := map[string]bool{}
	for _, f := range parseTree(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		commented[f.dir] = commented[f.dir] || f.ast.Doc != nil
		if ast.IsGenerated(f.ast) {
			continue
		}
		for _, name := range undocumented(f.ast) {
			t.Errorf("%s/%s: exported %s has no comment", f.dir, f.name, name)
		}
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s: package has no comment", dir)
		}
	}
}

func undocumented(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if n := undocumentedSpec(d, s); n != "" {
					names = append(names, n)
				}
			}
		}
	}
	return names
}

// exportedReceiver is false for methods that nobody outside can name, and for
// the methods that interfaces of the library prescribe.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	wellKnown := []string{"String", "Error", "Unwrap", "Close", "Read", "Write", "Len", "Less", "Swap"}
	return ok && id.IsExported() && !slices.Contains(wellKnown, d.Name.Name)
}

func undocumentedSpec(d *ast.GenDecl, s ast.Spec) string {
	switch s := s.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
			return s.Name.Name
		}
	case *ast.ValueSpec:
		if s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
			return s.Names[0].Name
		}
	}
	return ""
}

func TestEveryGoFileNamesItsLicense(t *testing.T) {
	for _, f := range parseTree(t) {
		if ast.IsGenerated(f.ast) {
			continue
		}
		b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(f.dir), f.name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), "// SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s/%s does not start with its SPDX line", f.dir, f.name)
		}
	}
}

func TestCommandsStaySmall(t *testing.T) {
	entries, err := filepath.Glob(filepath.Join("..", "..", "cmd", "*", "*.go"))
	if err != nil || len(entries) == 0 {
		t.Fatalf("no commands found: %v", err)
	}
	lines := map[string]int{}
	for _, p := range entries {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		lines[filepath.ToSlash(filepath.Join(filepath.Base(filepath.Dir(p)), filepath.Base(p)))] = strings.Count(string(b), "\n")
	}
	for name, n := range lines {
		if n > 200 {
			t.Errorf("cmd/%s has %d lines, over 200: flags, wiring and exit code only", name, n)
		}
	}
}
