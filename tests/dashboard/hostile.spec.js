const { test, expect, section, isLive } = require("./support");

const nothingIsTaken = async (page) => {
  const found = await page.evaluate(() => [window.isTaken ?? null, document.querySelectorAll("img, iframe, object").length]);
  expect(found).toEqual([null, 0]);
};

test("what clients make up is text and nothing else", async ({ dashboard: page }) => {
  await isLive(page);
  // Traffic has it as the key of a limit.
  const limits = section(page, "Rate limits and their top keys");
  await expect(limits.getByRole("rowheader", { name: process.env.HOSTILE, exact: true })).toBeVisible();
  await nothingIsTaken(page);
});

test("so is the path of a request that failed", async ({ dashboard: page }) => {
  await isLive(page);
  const request = section(page, "Errors").locator(".tail li", { hasText: "/payments/'%22%3E%3Cimg" }).first();
  await request.locator("summary").click();
  await expect(request.locator("dl")).toContainText("onerror=window.isTaken=1");
  await nothingIsTaken(page);
});

test.describe("by policy", () => {
  test.use({ allowed: ["TrustedHTML"] });

  test("no part of the page can be made of text", async ({ dashboard: page }) => {
    const answer = await page.request.get("/");
    const policy = answer.headers()["content-security-policy"];
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    const outcome = await page.evaluate(() => {
      try {
        document.body.innerHTML = "<p>taken</p>";
        return "taken";
      } catch (error) {
        return error.name;
      }
    });
    expect(outcome).toBe("TypeError");
  });
});
