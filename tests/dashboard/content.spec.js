const { test, expect, section, isLive } = require("./support");

test("the traffic of now is told and drawn", async ({ dashboard: page }) => {
  await isLive(page);
  const traffic = section(page, "Traffic");
  await expect(traffic.locator("dd").first()).toHaveText(/^[1-9]\d*(\.\d)?last 10 s$/);
  await expect(traffic.locator("dd").nth(2)).toHaveText(/^[\d.]+ (µs|ms|s)last minute$/);
  // By the second, so that there is a line after the first ones.
  await traffic.getByText("5 min", { exact: true }).click();
  for (const name of ["Requests per second", "Error rate", "Time to answer"]) {
    const plot = page.getByRole("slider", { name: `${name}: a moment in time` });
    await expect(plot).toHaveAttribute("aria-valuetext", /^\d\d:\d\d:\d\d: .*[1-9]/);
    await expect(plot.locator("path.series").first()).toHaveAttribute("d", /^M[\d. ]+L/);
  }
});

test("a chart is read with the keys", async ({ dashboard: page }) => {
  await isLive(page);
  await page.getByText("5 min", { exact: true }).click();
  const plot = page.getByRole("slider", { name: "Requests per second" });
  await expect.poll(async () => Number(await plot.getAttribute("aria-valuemax"))).toBeGreaterThan(2);
  await plot.focus();
  await page.keyboard.press("Home");
  await expect(plot).toHaveAttribute("aria-valuenow", "0");
  await page.keyboard.press("ArrowRight");
  await expect(plot).toHaveAttribute("aria-valuenow", "1");
  await expect(plot.locator(".cursor")).toHaveCount(1);
  await page.keyboard.press("Escape");
  await expect(plot.locator(".cursor")).toHaveCount(0);
});

test("figures change by themselves", async ({ dashboard: page }) => {
  await isLive(page);
  await page.getByText("5 min", { exact: true }).click();
  const plot = page.getByRole("slider", { name: "Requests per second" });
  const newest = () => plot.getAttribute("aria-valuetext");
  await expect.poll(newest).toMatch(/^\d\d:/);
  const [before] = (await newest()).split(": ");
  await expect.poll(async () => (await newest()).split(": ")[0] > before).toBe(true);
});

test("the map leads from routes over services to endpoints", async ({ dashboard: page }) => {
  await isLive(page);
  const map = section(page, "Service map").getByRole("img");
  await expect(map).toHaveAttribute("aria-label", /^\d+ routes, \d+ services and \d+ endpoints; /);
  await expect(map.locator("text.name", { hasText: "/orders" })).toBeVisible();
  // What fails is told by the number, the colour and the dashes.
  await expect(map.locator("text.rate.failing").first()).toHaveText(/\/s, [\d.]+ % errors$/);
  await expect(map.locator("path.edge.failing").first()).toHaveCSS("stroke-dasharray", /7/);
});

test("routes are searched and sorted", async ({ dashboard: page }) => {
  await isLive(page);
  const routes = section(page, "Routes");
  const rows = routes.locator("tbody tr");
  await expect(rows.filter({ hasText: "/orders" }).locator("td").nth(1)).toHaveText(/^[1-9][\d.]*\/s$/);
  await expect(routes.getByRole("columnheader", { name: "Requests" })).toHaveAttribute("aria-sort", "descending");
  await routes.getByRole("button", { name: "Route", exact: true }).click();
  await expect(routes.getByRole("columnheader", { name: "Route", exact: true })).toHaveAttribute("aria-sort", "ascending");
  const names = await rows.locator("th .path").allTextContents();
  expect(names).toEqual([...names].sort((a, b) => a.localeCompare(b)));
  await routes.getByRole("button", { name: "Errors" }).click();
  await expect(rows.first()).toContainText("/payments");
  await routes.getByRole("searchbox").fill("payments");
  await expect(rows).toHaveCount(1);
  await routes.getByRole("searchbox").fill("no such route");
  await expect(routes.getByText("No route matches.")).toBeVisible();
});

test("refusals are told by their reason, and limits with their top keys", async ({ dashboard: page }) => {
  await isLive(page);
  const refusals = section(page, "Refusals");
  for (const reason of ["unauthorized", "missing", "rate limited"]) {
    await expect(refusals.getByRole("row", { name: new RegExp(`^${reason} [1-9]`) })).toBeVisible();
  }
  const limits = section(page, "Rate limits and their top keys");
  await expect(limits.getByRole("article", { name: "/login" }).getByRole("row", { name: /^127\.0\.0\.1 \d/ })).toBeVisible();
});

test("failed requests come as they fail, with all that is known of them", async ({ dashboard: page }) => {
  await isLive(page);
  const errors = section(page, "Errors");
  const first = errors.locator(".tail li").first();
  await expect(first).toContainText("/payments");
  const id = () => first.locator("dd").nth(1).textContent();
  const before = await id();
  await expect.poll(id).not.toBe(before);
  await errors.getByRole("button", { name: "Pause" }).click();
  await first.locator("summary").click();
  await expect(first.locator("dl")).toContainText("payments");
  await errors.getByRole("button", { name: "Pause" }).click();
  await errors.getByText("Refused").click();
  await expect(errors.locator(".tail li").first()).toContainText(/429|401/);
  await errors.getByText("Slow").click();
  // On a busy machine refused ones are slow, too, of which no backend has sent a byte.
  await expect(errors.locator(".tail dl").filter({ hasText: "first byte" })).not.toHaveCount(0);
});

test("a request is explained", async ({ dashboard: page }) => {
  await isLive(page);
  const explain = section(page, "Explain a request");
  await explain.getByLabel("URL or path").fill("http://shop.example/orders/7");
  await explain.getByRole("button", { name: "Explain" }).click();
  await expect(explain.locator(".answer")).toHaveText("A route takes it");
  await expect(explain.locator("dl")).toContainText("/orders/{id}");
  await expect(explain.getByRole("region", { name: "Policies" })).toContainText("rate_limit");
});

test("the configuration is shown with the place of each line, and without secrets", async ({ dashboard: page }) => {
  await isLive(page);
  const configuration = section(page, "Configuration");
  const row = configuration.locator("tr", { hasText: "base_url:" }).first();
  await expect(row).toContainText(/\.yaml:\d+:\d+/);
  await expect(configuration).not.toContainText(process.env.DASHBOARD_TOKEN);
  await configuration.getByRole("searchbox").fill("no such key");
  await expect(configuration.locator(".empty")).toHaveText("Nothing matches.");
});
