// Command controlplane is the control plane of Tenantry's one-machine cluster: etcd,
// kube-apiserver and kube-controller-manager in one program. Each is a subcommand that takes the
// flags of the upstream program of that name, and each must run as a process of its own, since
// feature gates and metrics are global to a process.
package main

import (
	"fmt"
	"os"
	_ "time/tzdata" // time zones of CronJobs, on machines without a time zone database

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // the build's version as a metric
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = `usage: controlplane etcd|kube-apiserver|kube-controller-manager [flags]

The flags are those of the upstream program; "controlplane <name> --help" lists them.
`

func main() {
	name := ""
	if len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:] // the servers read their flags from os.Args
	}
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}
