// Command ferretdb is FerretDB for Tenantry's one-machine cluster: MongoDB's protocol on PostgreSQL.
// It takes those of the upstream program's flags and FERRETDB_* variables that matter there. It never
// reports to anybody, and has no debugging port.
//
// Upstream's own program is not built because it refuses to start unless a file with its version was
// put into its sources.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/FerretDB/FerretDB/build/version"
	"github.com/FerretDB/FerretDB/ferretdb"
)

const module = "github.com/FerretDB/FerretDB"

func main() {
	var config ferretdb.Config
	var level slog.LevelVar
	flags := flag.NewFlagSet("ferretdb", flag.ExitOnError)
	text := func(target *string, name, value, usage string) {
		variable := "FERRETDB_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if found := os.Getenv(variable); found != "" {
			value = found
		}
		flags.StringVar(target, name, value, usage+" ($"+variable+")")
	}
	text(&config.Listener.TCP, "listen-addr", "127.0.0.1:27017", "listen TCP address")
	text(&config.Listener.TLS, "listen-tls", "", "listen TLS address")
	text(&config.Listener.TLSCertFile, "listen-tls-cert-file", "", "TLS certificate file")
	text(&config.Listener.TLSKeyFile, "listen-tls-key-file", "", "TLS key file")
	text(&config.Listener.TLSCAFile, "listen-tls-ca-file", "", "TLS CA file, for client certificates")
	text(&config.PostgreSQLURL, "postgresql-url", "postgres://127.0.0.1:5432/ferretdb",
		"PostgreSQL to keep databases in; give no user, or whoever does not log in is that user")
	var ignored string
	text(&config.Handler, "handler", "postgresql", "postgresql, and no other")
	text(&ignored, "state-dir", "", "ignored: no state is kept")
	text(&ignored, "debug-addr", "", "ignored: there is no debugging port")
	text(&ignored, "telemetry", "", "ignored: there is none")
	flags.TextVar(&level, "log-level", &level, "DEBUG, INFO, WARN or ERROR")
	showVersion := flags.Bool("version", false, "print the version and exit")
	_ = flags.Parse(os.Args[1:]) // exits by itself
	info := version.Get()
	info.Version = pinned()
	if *showVersion {
		fmt.Println("version:", info.Version)
		return
	}
	if flags.NArg() > 0 {
		fail("unexpected argument: " + flags.Arg(0))
	}
	if config.Handler == "pg" { // the name of older releases
		config.Handler = "postgresql"
	}
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &level}))
	slog.SetDefault(config.Logger)
	server, err := ferretdb.New(&config)
	if err != nil {
		fail(err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := server.Run(ctx); err != nil {
		fail(err.Error())
	}
}

// pinned is the version of FerretDB in go.mod.
func pinned() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "unknown"
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "ferretdb:", message)
	os.Exit(1)
}
