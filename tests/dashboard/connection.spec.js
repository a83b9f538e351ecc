const { test, expect, isLive } = require("./support");

test.describe("without the gateway", () => {
  test.use({ allowed: ["/events", "/traffic", "/status"] });

  test("the page says that it is not connected, keeps what it knows, and comes back by itself", async ({ dashboard: page }) => {
    await isLive(page);
    await expect(page.locator("#routes-body tbody tr").first()).toBeVisible();
    await page.route("**/events", (route) => route.abort());
    await page.reload();
    await expect(page.locator("#connection")).toHaveText("Disconnected");
    await expect(page.getByRole("alert").filter({ hasText: "Not connected since" })).toContainText("Tries again in");
    await expect(page.locator("#routes-body tbody tr").first()).toBeVisible();
    await page.unroute("**/events");
    await isLive(page);
    await expect(page.getByRole("alert").filter({ hasText: "Not connected since" })).toBeHidden();
  });
});

test("what is loading, empty or not there says so", async ({ page }) => {
  let release;
  const held = new Promise((resolve) => {
    release = resolve;
  });
  await page.route("**/limits?*", async (route) => {
    await held;
    await route.fulfill({ json: { room: 1, estimated: 0, limits: [] } });
  });
  await page.route("**/services", (route) => route.fulfill({ status: 404, body: "here is nothing" }));
  await page.route("**/cache", (route) => route.fulfill({ status: 500, body: "it broke" }));
  await page.goto("/");
  await expect(page.locator("#limits-body").getByRole("img", { name: "Loading" })).toBeVisible();
  await expect(page.locator("#services-body")).toHaveText("This gateway does not tell.");
  await expect(page.locator("#cache-body")).toHaveText("it broke");
  release();
  await expect(page.locator("#limits-body")).toHaveText("No rate limit is configured.");
});

test("where the token is needed for all, it is asked for once", async ({ page }) => {
  const isLet = (route) => route.request().headers().authorization === "Bearer far away";
  await page.route(/\/(traffic|events|status|limits|services|routes|errors|cache|config)(\?|$)/, (route) =>
    isLet(route) ? route.fallback({ headers: { ...route.request().headers(), authorization: "" } }) : route.fulfill({ status: 401, body: "send the token" }));
  await page.goto("/");
  const dialog = page.getByRole("dialog", { name: "Admin token" });
  await expect(dialog).toBeVisible();
  await expect(page.locator("#limits-body")).toHaveText("Not shown: send the token");
  await dialog.getByRole("textbox").fill("far away");
  await dialog.getByRole("button", { name: "Show" }).click();
  await isLive(page);
  await expect(dialog).toBeHidden();
  // In memory only: neither stored nor shown.
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  expect(stored).not.toContain("far away");
});
