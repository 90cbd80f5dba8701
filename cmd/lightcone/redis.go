package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/spf13/pflag"

	"lightcone/cmd/internal/commandline"
	"lightcone/consul"
	"lightcone/identity/edge"
	"lightcone/internal/run"
)

// redisFlags say how a service reaches the region's Redis. Without a service's name
// there is none.
type redisFlags struct {
	service, master, user      string
	passwordFile, sentinelFile string
}

// keysFromConsul is what is different for services that know keys.
const keysFromConsul = "keys are read from Consul"

// register takes what is different without Redis.
func (r *redisFlags) register(f *pflag.FlagSet, without string) {
	f.StringVar(&r.service, "redis-service", "", "`NAME` of the Sentinels' service in Consul; without it there is no Redis, and "+without)
	f.StringVar(&r.master, "redis-master", "lightcone", "`NAME` that the Sentinels have for the master")
	f.StringVar(&r.user, "redis-user", "lightcone", "`NAME` of the user in Redis")
	f.StringVar(&r.passwordFile, "redis-password-file", "", "`file` with that user's password")
	f.StringVar(&r.sentinelFile, "sentinel-password-file", "", "`file` with the Sentinels' password")
}

// serviceName is what Consul's DNS can say.
var serviceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// config is how Redis is reached, without the addresses of its Sentinels.
func (r *redisFlags) config(logger *slog.Logger) (edge.RedisConfig, error) {
	if !serviceName.MatchString(r.service) {
		return edge.RedisConfig{}, commandline.Usagef("--redis-service %q: want a service's name, of lower-case letters, digits and dashes", r.service)
	}
	password, err := secretFile(r.passwordFile)
	if err != nil {
		return edge.RedisConfig{}, fmt.Errorf("--redis-password-file: %w", err)
	}
	sentinels, err := secretFile(r.sentinelFile)
	if err != nil {
		return edge.RedisConfig{}, fmt.Errorf("--sentinel-password-file: %w", err)
	}
	return edge.RedisConfig{Master: r.master, Username: r.user, Password: password, SentinelPassword: sentinels, Logger: logger.With("component", "redis")}, nil
}

// connect makes a connection to Redis that goes wherever Consul says the Sentinels
// are, and what ends it; nil when there is no Redis.
func (r *redisFlags) connect(catalogue *consul.Client, logger *slog.Logger) (*edge.Redis, run.Stop, error) {
	if r.service == "" {
		return nil, nil, nil
	}
	config, err := r.config(logger)
	if err != nil {
		return nil, nil, err
	}
	redis, err := edge.Connect(config, edge.DefaultStaleFor)
	if err != nil {
		return nil, nil, err
	}
	return redis, followSentinels(catalogue, r.service, redis, logger), nil
}

// followSentinels keeps redis informed of where the Sentinels are, and returns what
// ends that and the connection.
func followSentinels(catalogue *consul.Client, service string, redis *edge.Redis, logger *slog.Logger) run.Stop {
	stop := inBackground(func(ctx context.Context) {
		err := catalogue.Watch(ctx, service, func(instances []consul.Instance) {
			var sentinels []string
			for _, instance := range instances {
				sentinels = append(sentinels, instance.Address)
			}
			redis.Follow(sentinels)
		})
		if err != nil {
			logger.Error("the Sentinels are not followed", "service", service, "error", err)
		}
	})
	return func(ctx context.Context) error {
		return errors.Join(stop(ctx), redis.Close())
	}
}
