package app

import "runtime/debug"

// version is set when a release is linked: -ldflags "-X faultline/internal/app.version=v1.2.3".
var version string

// BuildVersion returns the program's version: the one linked in, else the module's, else "dev".
func BuildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
