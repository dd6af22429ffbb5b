// Drops a workflow on the canvas of a running ComfyUI in headless Chromium, queues it, and reports in JSON what the
// frontend made of it.  node workflow.mjs URL WORKFLOW.json CHROMIUM OUT_FOLDER [open|cancel]
// A video that carries its workflow can be dropped as well. "open" does not queue it.
// playwright-core comes from NODE_PATH.
import { createRequire } from 'node:module'
import fs from 'node:fs'
import path from 'node:path'

const [url, file, executablePath, out, mode] = process.argv.slice(2)
const cancel = mode === 'cancel'
const { chromium } = createRequire(path.join(process.cwd(), 'x.js'))('playwright-core')
const report = { errors: [], outside: [] }
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
try {
  const page = await browser.newPage({ viewport: { width: 2000, height: 1000 } })
  page.setDefaultTimeout(300000)
  await page.route((target) => target.host !== new URL(url).host && /^http/.test(target.protocol), (route) => {
    report.outside.push(route.request().url())
    return route.abort()
  })
  page.on('pageerror', (error) => report.errors.push(String(error)))
  await page.goto(url)
  await page.waitForFunction(() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50)
  await page.waitForTimeout(1500)
  report.errors.length = 0 // what a fresh profile's start logs is not about the workflow

  await page.evaluate(([content, name, type]) => {
    const seen = (window.seen = { events: [], previews: 0 })
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted', 'progress']) {
      window.app.api.addEventListener(name, (event) => seen.events.push({ name, data: event.detail }))
    }
    window.app.api.addEventListener('b_preview_with_metadata', () => seen.previews++)
    const data = new DataTransfer()
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))
    data.items.add(new File([bytes], name, { type }))
    const canvas = document.querySelector('#graph-canvas')
    for (const kind of ['dragenter', 'dragover', 'drop']) {
      canvas.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data, clientX: 1500, clientY: 700 }))
    }
  }, [fs.readFileSync(file, 'base64'), path.basename(file), file.endsWith('.mp4') ? 'video/mp4' : 'application/json'])
  await page.waitForFunction(() => window.app.graph.nodes.some((node) => node.type.startsWith('FusionFrames_')))
  await page.waitForTimeout(1000)
  Object.assign(report, await page.evaluate(() => ({
    nodes: window.app.graph.nodes.map((node) => node.type),
    missing: window.app.graph.nodes.map((node) => node.type).filter((type) => !(type in window.LiteGraph.registered_node_types)),
    dialogs: [...document.querySelectorAll('.p-dialog, .p-toast-message')].map((element) => element.innerText),
    wrong: window.app.graph.nodes.flatMap((node) => (node.widgets ?? []).filter((widget) =>
      (widget.type === 'combo' && Array.isArray(widget.options?.values) && !widget.options.values.includes(widget.value)) ||
      (widget.type === 'number' && !(widget.value >= widget.options.min && widget.value <= widget.options.max))
    ).map((widget) => `${node.type}.${widget.name}: ${widget.value}`))
  })))
  if (cancel) {
    await page.evaluate(() => {
      const node = window.app.graph.nodes.find((node) => node.type === 'FusionFrames_SampleKeyframes')
      node.widgets.find((widget) => widget.name === 'steps').value = 900
    })
  }
  if (mode !== 'open') {
    await page.evaluate(() => window.app.queuePrompt(0, 1))
    if (cancel) {
      await page.waitForFunction(() => window.seen.events.filter((event) => event.name === 'progress').length > 5)
      await page.screenshot({ path: path.join(out, 'running.png') })
      await page.evaluate(() => window.app.api.interrupt())
    }
    await page.waitForFunction(() => window.seen.events.some((event) => event.name.startsWith('execution_')))
    await page.waitForTimeout(2000)
    Object.assign(report, await page.evaluate(() => ({
      end: window.seen.events.findLast((event) => event.name.startsWith('execution_')),
      previews: window.seen.previews,
      videos: [...document.querySelectorAll('video')].map((video) =>
        ({ width: video.videoWidth, height: video.videoHeight, seconds: video.duration, error: video.error?.message ?? null }))
    })))
    report.videos.push(...(await page.evaluate(() => window.app.graph.nodes.flatMap((node) => (node.widgets ?? []).flatMap((widget) =>
      [...(widget.element?.querySelectorAll?.('video') ?? [])].map((video) =>
        ({ width: video.videoWidth, height: video.videoHeight, seconds: video.duration, error: video.error?.message ?? null })))))))
  }
  await page.screenshot({ path: path.join(out, 'done.png') })
} finally {
  await browser.close()
}
console.log(JSON.stringify(report))
