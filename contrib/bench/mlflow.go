package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/store"
)

const (
	besideClients  = 8
	besideRuns     = 4
	besideRounds   = 3
	besideWarm     = 500 * time.Millisecond
	besideTime     = 4 * time.Second
	besideSteps    = 50 // by 20 keys: 1,000 values, the most that MLflow takes in one call
	besideKeys     = 20
	besideVersions = 20
	mlflowFactor   = 10
	mlflowStart    = 2 * time.Minute
)

// mlflowMetrics and mlflowRegistry hold forged beside MLflow's own server: MLflow of contrib/python-env/mlflow.txt, started as `mlflow server` starts by default (SQLite in its directory, its default
// number of workers, uvicorn), both on loopback on this machine, in the same minutes, round about. One client program asks both: eight connections that are kept, the next
// request when the last is answered, answers read whole. Neither asks for a password of MLflow's, which has none by default; forged looks at a key in each request. Both
// commit to SQLite with synchronous=FULL, MLflow by SQLite's default, before they answer.
//
// mlflow_metrics is calls a second that bring 1,000 values (50 steps of 20 keys): runs/log-batch, and POST /v1/runs/{run}/metrics, which keeps roll-ups beside the values. mlflow_registry is the worse of two
// ratios, with 20 versions of one model: listing them (model-versions/search, GET /v1/models/{name}, which has the manifests of all), and the version that an alias points to
// (registered-models/alias; ours answers it by GET /v1/models/{name}/versions/{alias} where there is that, else by the whole listing). Making a version is not compared: MLflow writes down a name, forged hashes weights.
func mlflowMetrics(ctx context.Context, e env) (_ []figure, err error) {
	p, err := startMLflow(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	o := options(e)
	o.CPUSlots = besideRuns
	s, addr, runs, err := running(ctx, o, besideRuns)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	theirRuns, err := p.makeRuns(ctx, besideRuns)
	if err != nil {
		return nil, err
	}
	var step atomic.Int64
	step.Store(1_000_000)
	calls := func(steps, keys int) (ours, theirs call) {
		ours = func(ctx context.Context, hc *http.Client, client int) error {
			from := step.Add(int64(steps))
			return send(ctx, hc, addr+"/v1/runs/"+runs[client%besideRuns]+"/metrics", s.Key, appendBatch(nil, from, steps, keys), nil)
		}
		theirs = func(ctx context.Context, hc *http.Client, client int) error {
			from := step.Add(int64(steps))
			return send(ctx, hc, p.url+"runs/log-batch", "", mlflowBatch(theirRuns[client%besideRuns], from, steps, keys), nil)
		}
		return ours, theirs
	}
	ours, theirs := calls(besideSteps, besideKeys)
	batch, err := beside(ctx, "1,000 values a call", ours, theirs)
	if err != nil {
		return nil, err
	}
	ours, theirs = calls(1, 1)
	if _, err := beside(ctx, "one value a call", ours, theirs); err != nil {
		return nil, err
	}
	return []figure{atLeast("mlflow_metrics", batch.ours, "calls/s", "mlflow", batch.theirs, mlflowFactor)}, nil
}

func mlflowRegistry(ctx context.Context, e env) (_ []figure, err error) {
	p, err := startMLflow(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	s, err := forgedtest.New(ctx, options(e))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := addVersions(ctx, s, besideVersions); err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	addr, err := s.TCP()
	if err != nil {
		return nil, err
	}
	if err := p.makeVersions(ctx, besideVersions); err != nil {
		return nil, err
	}
	ask := func(url, key string) call {
		return func(ctx context.Context, hc *http.Client, _ int) error { return get(ctx, hc, url, key, nil) }
	}
	const models = "/v1/models/chat"
	listing, err := beside(ctx, fmt.Sprintf("listing %d versions", besideVersions), ask(addr+models, s.Key), ask(p.url+"model-versions/search?filter=name%3D%27chat%27&max_results=100", ""))
	if err != nil {
		return nil, err
	}
	byAlias, words := addr+models+"/versions/live", "the version of an alias"
	_ = send(ctx, http.DefaultClient, addr+models+"/versions/"+strconv.Itoa(besideVersions)+"/aliases", s.Key, []byte(`{"alias":"live"}`), nil)
	if get(ctx, http.DefaultClient, byAlias, s.Key, nil) != nil {
		byAlias, words = addr+models, "the version of an alias (ours: by the listing)"
	}
	alias, err := beside(ctx, words, ask(byAlias, s.Key), ask(p.url+"registered-models/alias?name=chat&alias=live", ""))
	if err != nil {
		return nil, err
	}
	if alias.ours/alias.theirs > listing.ours/listing.theirs {
		alias = listing
	}
	return []figure{atLeast("mlflow_registry", alias.ours, "calls/s", "mlflow", alias.theirs, mlflowFactor)}, nil
}

// call is one request of one of the clients.
type call func(ctx context.Context, hc *http.Client, client int) error

type pair struct{ ours, theirs float64 }

// beside takes turns between two servers, and gives the median of what each answers in a second. A server that fails now and then is not stopped for it: those calls do not
// count, and are printed.
func beside(ctx context.Context, what string, ours, theirs call) (pair, error) {
	var rates [2][]float64
	var failed [2]atomic.Int64
	var why atomic.Pointer[error]
	for range besideRounds {
		for i, do := range []call{ours, theirs} {
			rate, err := together(ctx, besideClients, besideWarm, besideTime, func(ctx context.Context, hc *http.Client, client int) func() (int, error) {
				return func() (int, error) {
					if err := do(ctx, hc, client); err != nil {
						failed[i].Add(1)
						why.Store(&err)
						return 0, ctx.Err()
					}
					return 1, nil
				}
			})
			if err != nil {
				return pair{}, err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	out := pair{median(rates[0]), median(rates[1])}
	note := ""
	if err := why.Load(); err != nil {
		note = fmt.Sprintf("; failed: %d of ours, %d of theirs (%.200v)", failed[0].Load(), failed[1].Load(), *err)
	}
	fmt.Printf("  %s: forged %.0f/s, mlflow %.1f/s, ratio %.1f%s\n", what, out.ours, out.theirs, out.ours/out.theirs, note)
	if failed[0].Load() > 0 || out.theirs == 0 {
		return out, fmt.Errorf("%s: calls failed%s", what, note)
	}
	return out, nil
}

// addVersions registers versions of one model past the API, which would want weights and runs: a file each, of a tenth of a second's training.
func addVersions(ctx context.Context, s *forgedtest.Site, n int) (err error) {
	db, err := store.Open(ctx, filepath.Join(s.State(), "forge.db"), store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := db.Authenticate(ctx, s.Key)
	if err != nil {
		return err
	}
	for i := range n {
		sum := fmt.Sprintf("%064x", i+1)
		_, err := db.For(p).AddModelVersion(ctx, forge.ModelVersion{Name: "chat", Kind: forge.ModelTrained, License: "MIT",
			Manifest: forge.Manifest{Root: "/models/chat/" + strconv.Itoa(i+1), Files: []forge.File{{Path: "adapter_model.safetensors", Size: 1 << 20, SHA256: sum}, {Path: "adapter_config.json", Size: 900, SHA256: sum}}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// mlflow is a running server of MLflow's.
type mlflow struct {
	dir, url string
	cmd      *exec.Cmd
	exited   chan error
}

// startMLflow starts the server as it starts by default, in a directory of its own.
func startMLflow(ctx context.Context) (_ *mlflow, err error) {
	out, err := exec.CommandContext(ctx, "contrib/python-env/install", "--mlflow").Output()
	if err != nil {
		return nil, fmt.Errorf("installing MLflow: %w", err)
	}
	home := strings.TrimSpace(string(out))
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &mlflow{url: fmt.Sprintf("http://127.0.0.1:%d/api/2.0/mlflow/", port), exited: make(chan error, 1)}
	if p.dir, err = os.MkdirTemp("", "forge-mlflow-"); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(p.dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(filepath.Join(home, "bin", "mlflow"), "server", "--host", "127.0.0.1", "--port", strconv.Itoa(port))
	p.cmd.Dir = p.dir
	p.cmd.Env = []string{"PATH=" + filepath.Join(home, "bin") + ":" + os.Getenv("PATH"), "HOME=" + p.dir, "LANG=C.UTF-8", "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true"}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers end with it
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.exited <- p.cmd.Wait() }()
	defer func() {
		if err != nil {
			said, _ := os.ReadFile(log.Name())
			err = errors.Join(fmt.Errorf("mlflow server: %w\n%s", err, said[max(0, len(said)-2000):]), p.close())
		}
	}()
	for deadline := time.Now().Add(mlflowStart); ; {
		if err = get(ctx, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/health", port), "", nil); err == nil {
			return p, nil
		}
		select {
		case gone := <-p.exited:
			p.exited <- gone
			return nil, fmt.Errorf("it ended: %w", gone)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (p *mlflow) close() error {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // workers that did not hear it; none are left most often
	return os.RemoveAll(p.dir)
}

func (p *mlflow) post(ctx context.Context, path string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return send(ctx, http.DefaultClient, p.url+path, "", body, out)
}

func (p *mlflow) makeRuns(ctx context.Context, n int) ([]string, error) {
	var ids []string
	for range n {
		var out struct {
			Run struct {
				Info struct {
					ID string `json:"run_id"`
				}
			}
		}
		if err := p.post(ctx, "runs/create", map[string]any{"experiment_id": "0", "start_time": time.Now().UnixMilli()}, &out); err != nil {
			return nil, err
		}
		ids = append(ids, out.Run.Info.ID)
	}
	return ids, nil
}

func (p *mlflow) makeVersions(ctx context.Context, n int) error {
	if err := p.post(ctx, "registered-models/create", map[string]any{"name": "chat"}, nil); err != nil {
		return err
	}
	for i := range n {
		if err := p.post(ctx, "model-versions/create", map[string]any{"name": "chat", "source": fmt.Sprintf("s3://models/chat/%d", i+1)}, nil); err != nil {
			return err
		}
	}
	return p.post(ctx, "registered-models/alias", map[string]any{"name": "chat", "alias": "live", "version": strconv.Itoa(n)}, nil)
}

// mlflowBatch writes the body of a log-batch with the values of appendBatch.
func mlflowBatch(run string, from int64, steps, keys int) []byte {
	b := append(append([]byte(`{"run_id":"`), run...), `","metrics":[`...)
	now := time.Now().UnixMilli()
	for i := range int64(steps) {
		for k := range keys {
			if i > 0 || k > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, `{"key":"`...), metricName(k)...), `","value":`...)
			b = strconv.AppendFloat(b, value(from+i, k), 'g', -1, 64)
			b = strconv.AppendInt(append(b, `,"timestamp":`...), now, 10)
			b = append(strconv.AppendInt(append(b, `,"step":`...), from+i, 10), '}')
		}
	}
	return append(b, "]}"...)
}
