// The gateway of the article that Tollgate began with, as it should have been: connections to
// backends are reused, counters are locked, tokens pin their algorithm.
//
// usage: gateway CONFIG.yaml
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt"
	"github.com/gorilla/mux"
	"github.com/spf13/viper"
)

type config struct {
	Listen          string
	AccessLog       string
	JWTSecret       string
	RateLimitWindow time.Duration
	RateLimitCount  int
	Services        map[string]struct {
		BaseURL string   `mapstructure:"base_url"`
		Routes  []string `mapstructure:"routes"`
	}
}

type counter struct {
	count int
	until time.Time
}

type limiter struct {
	lock   sync.Mutex
	window time.Duration
	most   int
	counts map[string]*counter
}

func (l *limiter) admit(key string) bool {
	now := time.Now()
	l.lock.Lock()
	defer l.lock.Unlock()
	c := l.counts[key]
	if c == nil || now.After(c.until) {
		c = &counter{until: now.Add(l.window)}
		l.counts[key] = c
	}
	c.count++
	return c.count <= l.most
}

func limited(l *limiter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, _, _ := net.SplitHostPort(r.RemoteAddr)
		if !l.admit(address) {
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func authorized(secret []byte, next http.Handler) http.Handler {
	parser := jwt.Parser{ValidMethods: []string{"HS256"}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		is := strings.HasPrefix(header, "Bearer ")
		if is {
			_, err := parser.Parse(strings.TrimPrefix(header, "Bearer "), func(*jwt.Token) (interface{}, error) { return secret, nil })
			is = err == nil
		}
		if !is {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func uuid() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

type recorder struct {
	http.ResponseWriter
	status  int
	written int
}

func (r *recorder) Write(body []byte) (int, error) {
	r.written += len(body)
	return r.ResponseWriter.Write(body)
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func logged(path string, next http.Handler) http.Handler {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	lines := make(chan []byte, 4096)
	go func() {
		out := bufio.NewWriterSize(file, 1<<16)
		for line := range lines {
			out.Write(line)
			if len(lines) == 0 {
				out.Flush()
			}
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, status: 200}
		next.ServeHTTP(rec, r)
		line, _ := json.Marshal(map[string]interface{}{
			"time": start, "client": r.RemoteAddr, "method": r.Method, "host": r.Host,
			"path": r.URL.Path, "protocol": r.Proto, "status": rec.status,
			"request_bytes": r.ContentLength, "response_bytes": rec.written,
			"total_us": time.Since(start).Microseconds(),
		})
		select {
		case lines <- append(line, '\n'):
		default:
		}
	})
}

func main() {
	viper.SetConfigFile(os.Args[1])
	if err := viper.ReadInConfig(); err != nil {
		log.Fatal(err)
	}
	var c config
	if err := viper.Unmarshal(&c); err != nil {
		log.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1024}
	router := mux.NewRouter()
	for name, service := range c.Services {
		base, err := url.Parse(service.BaseURL)
		if err != nil {
			log.Fatal(name, err)
		}
		proxy := httputil.NewSingleHostReverseProxy(base)
		proxy.Transport = transport
		direct := proxy.Director
		proxy.Director = func(r *http.Request) {
			client, _, _ := net.SplitHostPort(r.RemoteAddr)
			r.Header.Set("X-Forwarded-Proto", "http")
			r.Header.Set("X-Forwarded-Host", r.Host)
			r.Header.Set("Forwarded", fmt.Sprintf("for=%s;host=%q;proto=http", client, r.Host))
			r.Header.Add("Via", "1.1 go")
			r.Header.Set("X-Request-Id", uuid())
			direct(r)
		}
		proxy.ModifyResponse = func(r *http.Response) error {
			r.Header.Set("X-Request-Id", r.Request.Header.Get("X-Request-Id"))
			return nil
		}
		for _, route := range service.Routes {
			router.PathPrefix(route).Handler(proxy)
		}
	}
	var handler http.Handler = router
	if c.JWTSecret != "" {
		handler = authorized([]byte(c.JWTSecret), handler)
	}
	if c.RateLimitCount > 0 {
		l := &limiter{window: c.RateLimitWindow, most: c.RateLimitCount, counts: map[string]*counter{}}
		handler = limited(l, handler)
	}
	if c.AccessLog != "" {
		handler = logged(c.AccessLog, handler)
	}
	fmt.Println("listening on", c.Listen)
	log.Fatal(http.ListenAndServe(c.Listen, handler))
}
